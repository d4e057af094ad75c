"""The command line of `tools/convert_checkpoint`."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from megatron_sft.convert.__main__ import main
from tests.convert.models import REPOSITORY, megatron_tensors, read_weights, same_bytes

pytestmark = pytest.mark.trainer


def test_to_hf(
    model_folder: Path, write_checkpoint: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save = write_checkpoint(model_folder, megatron_tensors(model_folder))
    arguments = ["to-hf", "--checkpoint", str(save), "--iteration", "10", "--output", str(tmp_path / "out")]
    assert main(arguments) == 0
    assert "done: 47 tensors" in capsys.readouterr().out
    assert same_bytes(read_weights(model_folder), read_weights(tmp_path / "out"))
    assert main(arguments) == 2
    assert "convert_checkpoint: error: " in capsys.readouterr().err


def test_from_hf(model_folder: Path, tmp_path: Path) -> None:
    assert main(["from-hf", "--model", str(model_folder), "--output", str(tmp_path / "save")]) == 0
    assert (tmp_path / "save" / "iter_0000000" / "complete.json").exists()


def test_a_plain_conversion_does_without_torch(model_folder: Path, tmp_path: Path) -> None:
    # Its import takes as long as moving the weights of a small model.
    program = textwrap.dedent("""
        import sys
        from megatron_sft.convert.__main__ import main
        model, save, output = sys.argv[1:]
        assert main(["from-hf", "--model", model, "--output", save]) == 0
        assert main(["to-hf", "--checkpoint", save, "--output", output, "--trial", "never"]) == 0
        assert not {"torch", "transformers"} & sys.modules.keys()
    """)
    command = [sys.executable, "-c", program, *map(str, (model_folder, tmp_path / "save", tmp_path / "out"))]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert same_bytes(read_weights(model_folder), read_weights(tmp_path / "out"))


def test_errors_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["from-hf", "--model", str(tmp_path), "--output", str(tmp_path / "save")]) == 2
    message = capsys.readouterr().err
    assert message.startswith("convert_checkpoint: error: ")
    assert "config.json: cannot read the model config" in message


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["to-hf", "--output", "x"],
        ["to-hf", "--checkpoint", "x", "--output", "y", "--tp", "2"],
        ["to-hf", "--checkpoint", "x", "--output", "y", "--dtype", "int8"],
        ["to-gguf"],
    ],
)
def test_bad_options(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
