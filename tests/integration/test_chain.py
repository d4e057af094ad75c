"""The whole chain on a very small model, by the programs and in the order of tools/quickstart.

What is learned in a few steps is nothing; what is shown is that every program reads what the one before it wrote.
Run it alone with: tools/python -m pytest tests/integration
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from megatron_sft.workbench.quickstart import SIZES

pytestmark = [pytest.mark.slow, pytest.mark.vllm]

ROOT = Path(__file__).resolve().parents[2]
SIZE = SIZES["tiny"]
STEPS = (0, *SIZE.sft_save_iters)


def run_quickstart(output: Path) -> str:
    command = [sys.executable, "-m", "megatron_sft.workbench.quickstart", "--size", "tiny", "--output", str(output)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "VIRTUAL_ENV": sys.prefix}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1500)
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-8000:]
    return result.stdout


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chain") / "run"
    printed = run_quickstart(folder)
    assert f"report: {folder / 'report.html'}" in printed
    assert "in-domain" in printed
    return folder


def test_every_row_is_accounted_for(run: Path) -> None:
    num_families = 1 + len(SIZE.other_tasks)
    for name, num_rows in (("base", num_families * SIZE.num_base_problems), ("sft", SIZE.num_traces)):
        assert (run / "shards" / name / "manifest.json").is_file()
        rejects = (run / "shards" / name / "rejects.jsonl").read_text(encoding="utf-8").splitlines()
        assert rejects == [], f"{len(rejects)} of {num_rows} rows of our own making were rejected"


def test_training_recorded_every_step(run: Path) -> None:
    for name, num_steps in (("base", SIZE.base_iters), ("train", SIZE.sft_save_iters[-1])):
        steps = [json.loads(line) for line in (run / name / "metrics.jsonl").read_text().splitlines()]
        assert [step["iteration"] for step in steps] == list(range(1, num_steps + 1))
        assert all(step["trained_tokens"] > 0 and step["loss"] > 0 for step in steps)
    pre_training = [json.loads(line)["loss"] for line in (run / "base" / "metrics.jsonl").read_text().splitlines()]
    assert pre_training[-1] < pre_training[0]


def test_every_model_was_scored_on_every_task(run: Path) -> None:
    results = json.loads((run / "eval" / "results.json").read_text(encoding="utf-8"))
    expected = {(step, task) for step in STEPS for task in SIZE.evaluated_tasks}
    assert {(result["iteration"], result["task"]) for result in results} == expected
    for result in results:
        assert result["num_samples"] >= SIZE.num_held_out
        assert 0 <= result["score"] <= 1
        assert 0 <= result["share_cut_off"] <= 1
        assert result["mean_length_tokens"] > 0
        in_domain = result["task"] == SIZE.trained_task
        assert result["group"] == ("in-domain" if in_domain else "out-of-domain")


def test_report_holds_all_of_it(run: Path) -> None:
    page = (run / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 4
    for label in ("base", *(f"step {step}" for step in SIZE.sft_save_iters), *SIZE.evaluated_tasks):
        assert label in page
    assert len(list(run.glob("report-*.png"))) == 4


def test_second_call_does_nothing_again(run: Path) -> None:
    files = [path for path in run.rglob("*") if path.is_file() and not path.name.endswith("lock")]
    before = {path: path.stat().st_mtime_ns for path in files}
    printed = run_quickstart(run)
    assert printed.count("already done") == 9
    assert {path: path.stat().st_mtime_ns for path in files} == before
