"""Two arms of the paper's study, from rows in the published schema to scores, with a tiny model in place of the real.

Recipes, conditions, programs and benchmarks are the study's own; a file for --run and --trial make it small. The run is
killed once on the way.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.vllm]

ROOT = Path(__file__).resolve().parents[2]
ARMS = ("1.7b-math-cot", "1.7b-math-nocot")
STEPS = (2, 4)
NUM_ROWS = 256
"""A batch of the paper."""
REQUEST = "\nPlease reason step by step, and put your final answer within \\boxed{}."
HERE = """
num_processes: 1
data_sets:
  Math-CoT-20k: {{options: --source math-cot-20k={folder}/cot.jsonl --expected-rows {rows}}}
  Math-NoCoT-20k: {{options: --source math-nocot-20k={folder}/nocot.jsonl --expected-rows {rows}}}
evaluate: --limit 2 --num-samples-per-item 1 --max-tokens 16 --temperature 0 --max-num-seqs 8
"""


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def published_row(number: int, *, has_trace: bool) -> dict[str, Any]:
    question, answer = f"What is {number} + 5?", f"{number + 5}"
    trace = f"<think>\n{number} and 5 make {answer}.\n</think>\n\n" if has_trace else ""
    return {
        "data_source": "sums",
        "question": question,
        "answer": answer,
        "message": [{"role": "user", "content": question + REQUEST}],
        "response": f"{trace}It is \\boxed{{{answer}}}.",
        "response_length": 0,
        "advantage": 1.0,
    }


@pytest.fixture(scope="module")
def places(random_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models, benchmarks, sources and the file for --run."""
    folder = tmp_path_factory.mktemp("paper")
    model = folder / "models" / "Qwen3-1.7B-Base"
    shutil.copytree(random_model, model)
    (model / "megatron_sft.json").unlink()
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 1024}))
    write_jsonl(folder / "cot.jsonl", [published_row(number, has_trace=True) for number in range(NUM_ROWS)])
    write_jsonl(folder / "nocot.jsonl", [published_row(number, has_trace=False) for number in range(NUM_ROWS)])
    benchmarks = folder / "benchmarks"
    benchmarks.mkdir()
    problems = [{"problem": f"What is {n} + 7?", "answer": str(n + 7), "unique_id": f"p/{n}"} for n in range(3)]
    write_jsonl(benchmarks / "math500.jsonl", problems)
    write_jsonl(benchmarks / "aime24.jsonl", [{"id": n, **row} for n, row in enumerate(problems)])
    (folder / "here.yaml").write_text(HERE.format(folder=folder, rows=NUM_ROWS))
    return folder


def start(places: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "megatron_sft.studies", "studies/paper", "--output", str(places / "run")]
    command += ["--only", *ARMS, "--benchmark", "math500", "aime24", "--trial", *map(str, STEPS)]
    command += ["--models", str(places / "models"), "--benchmarks", str(places / "benchmarks")]
    command += ["--run", str(places / "here.yaml")]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def marks(places: Path) -> dict[str, dict[str, Any]]:
    return {path.stem: json.loads(path.read_text()) for path in sorted((places / "run" / "stages").glob("*.json"))}


@pytest.fixture(scope="module")
def run(places: Path) -> Path:
    first = start(places)
    while marks(places).get("train-1.7b-math-cot", {}).get("state") != "running":
        assert first.poll() is None, first.communicate()[0]
        time.sleep(0.2)
    time.sleep(2)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    second = start(places)
    printed, _ = second.communicate(timeout=3000)
    assert second.returncode == 0, printed[-6000:]
    return places / "run"


def test_everything_is_done_and_the_killed_stage_went_on(run: Path) -> None:
    found = marks(run.parent)
    assert {mark["state"] for mark in found.values()} == {"done"}
    assert len(found) == 2 + 2 + 1 + 3 * len(ARMS)
    assert found["train-1.7b-math-cot"]["attempts"] == 2
    assert found["data-Math-CoT-20k"]["attempts"] == 1


def test_trainings_have_the_papers_options_and_the_arms_data(run: Path) -> None:
    for arm in ARMS:
        resolved = (run / "train" / arm / "resolved_config.yaml").read_text()
        for line in ("lr: 5.0e-05", "global_batch_size: 256", "train_iters: 4", "bf16: true", "weight_decay: 0.01"):
            assert f"\n{line}" in resolved, line
        records = [json.loads(line) for line in (run / "train" / arm / "metrics.jsonl").read_text().splitlines()]
        assert [record["iteration"] for record in records] == [1, 2, 3, 4]
    for name in ("Math-CoT-20k", "Math-NoCoT-20k"):
        assert json.loads((run / "data" / name / "dataset.json").read_text())["num_rows"] == NUM_ROWS
        manifest = json.loads((run / "shards" / f"{name}-Qwen3-1.7B-Base" / "manifest.json").read_text())
        assert manifest["counts"]["rows_kept"] == NUM_ROWS


def test_only_the_last_checkpoint_stays_beside_all_exports(run: Path) -> None:
    for arm in ARMS:
        assert [path.name for path in sorted((run / "train" / arm).glob("iter_*"))] == ["iter_0000004"]
        assert [path.name for path in sorted((run / "hf" / arm).iterdir())] == ["iter_0000002", "iter_0000004"]


def test_base_and_every_checkpoint_have_scores(run: Path) -> None:
    folders = {"base/Qwen3-1.7B-Base": {0}, **{f"arms/{arm}": set(STEPS) for arm in ARMS}}
    for folder, steps in folders.items():
        results = json.loads((run / "eval" / folder / "results.json").read_text())
        found = {(result["iteration"], result["task"]) for result in results}
        assert found == {(step, task) for step in steps for task in ("math500", "aime24")}
        assert all(result["num_samples"] == 2 and result["group"] == "in-domain" for result in results)


def test_the_same_command_does_nothing_again(run: Path) -> None:
    before = {
        path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file() and not path.name.endswith("lock")
    }
    again = start(run.parent)
    printed, _ = again.communicate(timeout=300)
    assert again.returncode == 0, printed
    assert printed.count("already done") == len(marks(run.parent))
    assert {path: path.stat().st_mtime_ns for path in before} == before
