"""Exports of several checkpoints: each whole or absent, those there left alone, failing ones named."""

import hashlib
import json
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from megatron_sft.convert import series
from megatron_sft.convert.__main__ import main
from megatron_sft.convert.dtypes import Dtype
from megatron_sft.convert.series import Series
from megatron_sft.data.chat import ChatTokenizer
from megatron_sft.errors import CheckpointError, ConversionError
from megatron_sft.model import checkpoint_dir
from tests.convert.models import megatron_tensors, read_weights, same_bytes

pytestmark = pytest.mark.trainer

Write = Callable[..., Path]
TRAIN_ITERS = {"train_iters": 30}


def write_run(model: Path, write_checkpoint: Write, *iterations: int) -> Path:
    """A run of 30 iterations with these checkpoints; the weights of iteration N are N larger than the model's."""
    for iteration in iterations:
        tensors = {name: tensor + iteration for name, tensor in megatron_tensors(model).items()}
        save = write_checkpoint(model, tensors, iteration=iteration, options=TRAIN_ITERS)
    return save


def holds(export: Path, model: Path, iteration: int) -> bool:
    expected = {name: tensor + iteration for name, tensor in read_weights(model).items()}
    return same_bytes(expected, read_weights(export))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_all_and_named_ones(model_folder: Path, write_checkpoint: Write, tmp_path: Path) -> None:
    save = write_run(model_folder, write_checkpoint, 10, 20, 30)
    arguments = ["to-hf", "--checkpoint", str(save), "--output", str(tmp_path / "some"), "--iteration", "10,30"]
    assert main(arguments) == 0
    assert names(tmp_path / "some") == ["iter_0000010", "iter_0000030"]
    assert all(holds(tmp_path / "some" / f"iter_00000{n}", model_folder, n) for n in (10, 30))
    arguments[-1] = "all"
    assert main(arguments) == 0
    assert names(tmp_path / "some") == ["iter_0000010", "iter_0000020", "iter_0000030"]
    assert holds(tmp_path / "some" / "iter_0000020", model_folder, 20)


def test_whole_exports_are_left_alone(
    model_folder: Path, write_checkpoint: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save, output = write_run(model_folder, write_checkpoint, 10, 20), tmp_path / "out"
    whole = Series(save=save, output=output, iterations=(10,))
    whole.export_present()
    before = (output / "iter_0000010").stat().st_mtime_ns
    Series(save=save, output=output, iterations=None).export_present()
    assert "iteration 10: " + str(output / "iter_0000010") + " is there already and whole" in capsys.readouterr().out
    assert (output / "iter_0000010").stat().st_mtime_ns == before
    assert holds(output / "iter_0000020", model_folder, 20)
    # Another type, cut weights, and another run's checkpoint of that iteration: none of them is this export.
    with pytest.raises(ConversionError, match="iterations 10;"):
        Series(save=save, output=output, iterations=(10,), dtype=Dtype.BFLOAT16).export_present()
    assert "dtype is 'float32' in provenance.json, and 'bfloat16' here" in capsys.readouterr().err
    weights = output / "iter_0000010" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(ConversionError):
        whole.export_present()
    assert "model.safetensors is missing or has not" in capsys.readouterr().err
    write_run(model_folder, write_checkpoint, 20)
    with pytest.raises(ConversionError, match="iterations 20;"):
        Series(save=save, output=output, iterations=(20,)).export_present()
    assert "checkpoint_fingerprint is" in capsys.readouterr().err


def test_a_failing_one_does_not_stop_the_others(
    model_folder: Path, write_checkpoint: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save, output = write_run(model_folder, write_checkpoint, 10, 20, 30), tmp_path / "out"
    next((save / "iter_0000020").glob("*.distcp")).unlink()
    arguments = ["to-hf", "--checkpoint", str(save), "--output", str(output), "--iteration", "20,25,30"]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert "error: iteration 20 is not exported: " in error
    assert "error: iteration 25 is not exported: " in error
    assert "2 of the exports failed (iterations 20, 25;" in error
    assert names(output) == ["iter_0000030"]


def test_nothing_to_export(tmp_path: Path, model_folder: Path, write_checkpoint: Write) -> None:
    with pytest.raises(CheckpointError, match="there is no such folder"):
        Series(save=tmp_path / "nowhere", output=tmp_path / "out", iterations=None).export_present()
    save = write_run(model_folder, write_checkpoint, 10)
    with pytest.raises(ConversionError, match="one iteration already"):
        Series(save=save / "iter_0000010", output=tmp_path / "out", iterations=None)


def test_a_running_training_is_followed_to_its_end(
    model_folder: Path, write_checkpoint: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_run(model_folder, write_checkpoint, 10, 20, 30)
    save, output = tmp_path / "run", tmp_path / "out"
    exported: list[tuple[int, list[int]]] = []
    export = series.export

    def observed(folder: Path, *arguments: object, **options: object) -> object:
        exported.append((int(folder.name[5:]), checkpoint_dir.list_complete(save)))
        return export(folder, *arguments, **options)  # type: ignore[arg-type]

    def train() -> None:
        for iteration in (10, 20, 30):
            time.sleep(0.3)
            folder = checkpoint_dir.iteration_dir(save, iteration)
            # An incomplete checkpoint first: it must not be taken.
            shutil.copytree(source / folder.name, folder, ignore=shutil.ignore_patterns(checkpoint_dir.MARKER))
            time.sleep(0.3)
            shutil.copy(source / folder.name / checkpoint_dir.MARKER, folder)
            while iteration < 30 and not (output / folder.name).exists():
                time.sleep(0.01)

    monkeypatch.setattr(series, "export", observed)
    training = threading.Thread(target=train)
    training.start()
    Series(save=save, output=output, iterations=None).follow(poll_seconds=0.05, patience_minutes=1)
    training.join()
    assert exported == [(10, [10]), (20, [10, 20]), (30, [10, 20, 30])]
    assert all(holds(output / f"iter_00000{n}", model_folder, n) for n in (10, 20, 30))


def test_following_ends(model_folder: Path, write_checkpoint: Write, tmp_path: Path) -> None:
    save = write_run(model_folder, write_checkpoint, 10, 20)
    Series(save=save, output=tmp_path / "named", iterations=(20,)).follow(poll_seconds=0.01, patience_minutes=1)
    assert names(tmp_path / "named") == ["iter_0000020"]
    with pytest.raises(ConversionError, match=r"no new checkpoint for 0\.001 minutes"):
        Series(save=save, output=tmp_path / "all", iterations=None).follow(poll_seconds=0.01, patience_minutes=0.001)
    assert names(tmp_path / "all") == ["iter_0000010", "iter_0000020"]


def test_provenance(model_folder: Path, write_checkpoint: Write, tmp_path: Path) -> None:
    tokenizer = ChatTokenizer(model_folder).fingerprint
    identity = {"data_fingerprint": "d" * 64, "tokenizer_fingerprint": tokenizer}
    save = write_checkpoint(
        model_folder, megatron_tensors(model_folder), iteration=10, identity=identity, options={"lr": 0.5}
    )
    (save / "resolved_config.yaml").write_text("lr: 0.5  # command line\n")
    Series(save=save, output=tmp_path / "out", iterations=None).export_present()
    folder = tmp_path / "out" / "iter_0000010"
    found = json.loads((folder / "provenance.json").read_text())
    assert (found["run"], found["iteration"], found["dtype"]) == (str(save), 10, "float32")
    assert (found["data_fingerprint"], found["tokenizer_fingerprint"]) == ("d" * 64, tokenizer)
    assert (found["options"], found["resolved_options"]) == ({"lr": 0.5}, "lr: 0.5  # command line\n")
    assert {"megatron-sft", "python", "torch", "transformers", "safetensors"} <= found["exported_with"].keys()
    content = (folder / "model.safetensors").read_bytes()
    weights = {"model.safetensors": {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}}
    assert found["weights"] == weights
