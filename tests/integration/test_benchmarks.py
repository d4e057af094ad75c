"""Benchmarks of every kind with a real model, a judge behind `vllm serve`, and generated code in the sandbox.

One command, killed once on the way. MEGATRON_SFT_EVAL_ITEMS sets the number of items of each benchmark.
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

from tests.vllm_server import VllmServer

REPOSITORY = Path(__file__).resolve().parents[2]
NUM_ITEMS = int(os.environ.get("MEGATRON_SFT_EVAL_ITEMS", "1"))
TASKS = (
    *("math500", "aime24", "gsm8k", "mmlu_pro", "ifeval", "truthfulqa", "harmbench", "humaneval", "countdown"),
    *("rg_chain_sum", "rg_gcd", "rg_letter_counting", "rg_spell_backward"),
)
JUDGED = {"truthfulqa", "harmbench"}


def rows_of(folder: Path, kind: str) -> list[dict[str, Any]]:
    files = sorted(folder.glob(f"{kind}/**/*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


@pytest.mark.vllm
@pytest.mark.slow
def test_one_command_killed_once(smollm2: Path, shared_data: Path, tmp_path: Path) -> None:
    pytest.importorskip("vllm", reason="vLLM is not installed")
    for package in ("pyarrow", "httpx", "langdetect", "nltk", "reasoning_gym"):
        pytest.importorskip(package)
    if shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed")
    server = VllmServer(smollm2, tmp_path / "server", name="judge", max_model_len=2048)
    server.start()
    output = tmp_path / "eval"
    command = [sys.executable, "-m", "evals.evaluate", "--model", str(smollm2), "--data", str(shared_data / "eval")]
    command += ["--tasks", ",".join(TASKS), "--output", str(output), "--limit", str(NUM_ITEMS)]
    command += ["--num-samples-per-item", "2", "--max-tokens", "128", "--max-model-len", "2048", "--max-num-seqs", "32"]
    command += ["--judge", f"judge@{server.url}", "--judge-max-tokens", "96", "--request-timeout", "300"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    try:
        first = subprocess.Popen(command, env=environment, start_new_session=True)
        while len(rows_of(output, "generations")) < NUM_ITEMS * len(TASKS) // 2:
            assert first.poll() is None, "ended before it could be killed"
            time.sleep(0.1)
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()
        kept = {row["key"]: row["text"] for row in rows_of(output, "generations")[:-1]}
        assert kept
        done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    finally:
        server.kill()
    print(done.stdout)
    assert done.returncode == 0, done.stderr[-3000:]
    generated = rows_of(output, "generations")
    assert len(generated) == len({row["key"] for row in generated}) == 2 * NUM_ITEMS * len(TASKS)
    assert {row["key"]: row["text"] for row in generated if row["key"] in kept} == kept
    results = {entry["task"]: entry for entry in json.loads((output / "results.json").read_text())}
    assert set(results) == set(TASKS)
    for task, entry in results.items():
        assert entry["num_samples"] == 2 * NUM_ITEMS, task
        assert sum(entry["reasons"].values()) == 2 * NUM_ITEMS, task
        assert ("judge" in entry["grader"]) == (task in JUDGED), task
    assert len(rows_of(output, "judgements")) == 3 * 2 * NUM_ITEMS - 2 * sum(
        results["truthfulqa"]["reasons"].get(reason, 0) for reason in ("no_reply",)
    ) - results["harmbench"]["reasons"].get("no_reply", 0)
    table = (output / "results.md").read_text()
    assert all(task.replace("_", "\\_") in table or task in table for task in TASKS)
