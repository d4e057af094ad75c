"""`tools/plan` as users run it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from megatron_sft.planning import __main__ as program
from tests.data.shard_folder import write_folder
from tests.planning.published import QWEN3

REPOSITORY = Path(__file__).parents[2]


def run(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "megatron_sft.planning", *options]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


def test_prints_the_best_layouts_and_why_others_fail(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps(QWEN3["qwen3-14b"][0]))
    output = tmp_path / "new" / "plan.json"
    result = run("--model", str(config), "--gpus", "8", "--top", "3", "--json", str(output))
    assert result.returncode == 0, result.stderr
    assert "14.768 billion parameters, 40 layers" in result.stdout
    assert "estimates, not measurements" in result.stdout
    lines = result.stdout.splitlines()
    header = next(index for index, line in enumerate(lines) if line.startswith("tp  pp  ch"))
    assert len({len(line.removesuffix(" *")) for line in lines[header : header + 4]}) == 1
    assert "faster, but too large" in result.stdout
    written = json.loads(output.read_text())
    assert written["parameters"] == 14_768_307_200
    best = written["fitting"][0]
    first = lines[header + 1].split()
    assert [int(value) for value in first[:5]] == [best["layout"][name] for name in ("tp", "pp", "vpp", "cp", "dp")]
    assert best["memory_bytes"]["total"] <= 80 * 1024**3 < written["too_large"][0]["memory_bytes"]["total"]
    parts = [value for cause, value in best["seconds"].items() if cause != "total"]
    assert sum(parts) == pytest.approx(best["seconds"]["total"])


def test_nothing_fits_is_a_failure_that_names_the_nearest() -> None:
    result = run("--model", "qwen3-32b", "--gpus", "1")
    assert result.returncode == 1
    assert "nothing fits; the nearest\n  tp 1 pp 1 cp 1 dp 1, recompute full: " in result.stdout


def test_a_layout_that_just_fits_is_marked() -> None:
    # 73.1 GiB are reckoned.
    options = ["--model", "qwen3-1.7b", "--gpus", "1", "--recompute", "none", "--gpu-memory"]
    loose, tight, less = (run(*options, memory) for memory in ("78GiB", "74GiB", "73GiB"))
    assert (loose.returncode, tight.returncode, less.returncode) == (0, 0, 1)
    assert "73.1 *\n* takes more than 95% of the memory" in tight.stdout
    assert "*" not in loose.stdout


def test_real_lengths_come_from_shards(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "shards", [[[1] * 99, [2]]] * 8)
    result = run("--model", "qwen3-0.6b", "--gpus", "1", "--data", str(folder), "--global-batch-size", "8",
                 "--seq-length", "512")  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert f"8 samples, mean 100 tokens (from {folder}), root mean square 100; rows of 512" in result.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--gpus", "0"], "--gpus 0: must be at least 1"),
        (["--gpus", "12"], "--gpus 12: not a whole number of nodes of 8 GPUs"),
        (["--gpus", "8", "--gpu-memory", "80 apples"], "--gpu-memory '80 apples': give a number with GiB"),
        (["--gpus", "8", "--efficiency", "40"], "--efficiency 40.0: a share of the peak"),
        (["--gpus", "8", "--mean-length", "30000"], "--mean-length 30000 is above --seq-length 20480"),
        (["--gpus", "8", "--data", "x", "--mean-length", "5"], "have no effect beside --data"),
        (["--gpus", "8", "--length-spread", "9"], "--length-spread 9.0: must lie in 0..3"),
        (["--gpus", "8", "--model", "qwen9"], "cannot read the model config (No such file or directory)"),
        (["--gpus", "8", "--data", "missing"], "missing: no such folder"),
        (["--gpus", "8", "--peak-tflops", "nan"], "--peak-tflops nan: must be above 0"),
    ],
)
def test_mistakes_are_named(options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    from megatron_sft import cli

    argv = ["--model", "qwen3-8b", *options]
    try:
        status = cli.run(program.PlanConfig, program.main, prog="plan", argv=argv)
    except SystemExit as end:  # what options contradict, tyro reports
        status = end.code
    assert status == 2
    assert message in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("text", "expected"), [("80GiB", 80 * 2**30), ("80", 80 * 2**30), ("81559 MiB", 81559 * 2**20), ("1.5GB", 1.5e9)]
)
def test_memory_has_a_unit(text: str, expected: float) -> None:
    options: dict[str, Any] = {"model": "qwen3-8b", "gpus": 1, "gpu_memory": text}
    assert program.PlanConfig(**options).memory_bytes == expected


def test_needs_no_torch() -> None:
    code = "import sys, megatron_sft.planning.__main__; print('torch' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert (result.stdout, result.stderr) == ("False\n", "")
