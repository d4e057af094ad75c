"""What is reused, what is refused, and what a kill leaves."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from megatron_sft.dataset_recipes.stages import StageRunner
from tests.conftest import REPOSITORY
from tests.dataset_recipes.conftest import NUM_ROWS, PUBLISHED, build, dataset, published_row, rows_of

EXPECTED = ("--expected-rows", str(NUM_ROWS))


def results(folder: Path) -> dict[str, bytes]:
    """The bytes of what a build is for."""
    files = [
        folder / "rows.parquet",
        folder / "dataset.json",
        *(folder / "card").iterdir(),
        *(folder / "shards").iterdir(),
    ]
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def test_what_is_there_is_reused_or_refused(
    math_cot: Path, tiny_tokenizer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, words = tmp_path / "out", ("--source", f"math-cot-20k={math_cot}", *EXPECTED)
    assert build("math-nocot-20k", output, tiny_tokenizer, *words, "--plan") == 0
    assert not output.exists()
    assert build("math-nocot-20k", output, tiny_tokenizer, *words) == 0
    assert capsys.readouterr().out.count(": build\n") == 5
    before = results(output)
    assert build("math-nocot-20k", output, tiny_tokenizer, *words) == 0
    assert capsys.readouterr().out.count(": reused") == 5
    assert results(output) == before

    # Another place, the same content: nothing changes.
    moved = math_cot.rename(tmp_path / "moved.parquet")
    words = ("--source", f"math-cot-20k={moved}", *EXPECTED)
    assert build("math-nocot-20k", output, tiny_tokenizer, *words, "--plan") == 0
    assert capsys.readouterr().out.count(" reuse ") == 4

    rows = [published_row(number) for number in reversed(range(NUM_ROWS))]
    pq.write_table(pa.Table.from_pylist(rows, PUBLISHED), moved)
    assert build("math-nocot-20k", output, tiny_tokenizer, *words) == 2
    error = capsys.readouterr().err
    assert "candidates: source: " in error and " became " in error and "give --overwrite" in error
    assert rows_of(output)[0]["answer"] == "1"
    assert build("math-nocot-20k", output, tiny_tokenizer, *words, "--overwrite") == 0
    assert "select: verify none, select all: build again (a stage before it is another one)" in capsys.readouterr().out
    assert rows_of(output)[0]["answer"] == str(2 * NUM_ROWS - 1)

    # Changes are named one by one; --plan says the same.
    other = (*words[:-1], "9")
    assert build("math-nocot-20k", output, tiny_tokenizer, *other, "--plan") == 0
    assert "expected_rows: 16 became 9" in capsys.readouterr().out
    assert build("math-nocot-20k", output, tiny_tokenizer, *other) == 2
    assert "  rows: expected_rows: 16 became 9\n" in capsys.readouterr().err

    # A result that somebody removed is made again.
    (output / "rows.parquet").unlink()
    assert build("math-nocot-20k", output, tiny_tokenizer, *words) == 0
    assert "rows.parquet is gone or has another size" in capsys.readouterr().out


@pytest.mark.parametrize("mark", ["select", "shards"])
def test_a_killed_build_goes_on_to_the_same_bytes(
    mark: str, math_cot: Path, tiny_tokenizer: Path, tmp_path: Path
) -> None:
    words = ["--source", f"math-cot-20k={math_cot}", *EXPECTED]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert build("math-nocot-20k", whole, tiny_tokenizer, *words) == 0
    command = [sys.executable, "-m", "megatron_sft.dataset_recipes", "math-nocot-20k", "--output", str(killed)]
    command += ["--tokenizer", str(tiny_tokenizer), "--workers", "1", *words]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, env=os.environ)
    # The mark is there from the beginning of the stage on.
    while not (killed / "stages" / f"{mark}.json").exists():
        assert process.poll() is None, "it must be killed before its end"
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (killed / "dataset.json").exists()
    deadline = time.monotonic() + 20
    while (status := build("math-nocot-20k", killed, tiny_tokenizer, *words)) and time.monotonic() < deadline:
        # The program under it may need a moment to end, too.
        time.sleep(0.1)
    assert status == 0
    assert results(killed) == results(whole)


def test_one_build_at_a_time(
    math_cot: Path, tiny_tokenizer: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with StageRunner(tmp_path / "out").locked():
        assert build("math-nocot-20k", tmp_path / "out", tiny_tokenizer, "--source", f"math-cot-20k={math_cot}") == 2
    assert "another build_dataset is at work there" in capfd.readouterr().err


def test_a_source_in_the_hub_cache(math_cot: Path, tiny_tokenizer: Path, tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub")
    revision = "1435fb21d4fecc8ad4966a26f22a874cf2b527f1"
    snapshot = tmp_path / "hub" / "datasets--jasonrqh--Math-CoT-20k" / "snapshots" / revision / "data"
    snapshot.mkdir(parents=True)
    math_cot.rename(snapshot / "train-00000-of-00001.parquet")
    command = [
        sys.executable,
        "-m",
        "megatron_sft.dataset_recipes",
        "math-nocot-20k",
        "--output",
        str(tmp_path / "out"),
    ]
    environment = os.environ | {"HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"}
    command += ["--tokenizer", str(tiny_tokenizer), *EXPECTED]
    subprocess.run(command, cwd=REPOSITORY, env=environment, check=True)
    source = dataset(tmp_path / "out")["sources"]["math-cot-20k"]
    assert (source["hub"], source["revision"]) == ("jasonrqh/Math-CoT-20k", revision)
    assert len(rows_of(tmp_path / "out")) == NUM_ROWS
