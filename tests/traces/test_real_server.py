"""A real teacher behind `vllm serve`, with failures in between and the server killed and started again."""

import json
import os
import threading
import time
from pathlib import Path

import pytest

from megatron_sft.data import build_shards
from megatron_sft.data.chat import last_boxed
from megatron_sft.traces.__main__ import main
from tests.traces.conftest import read_traces, write_rows
from tests.traces.easy_queries import easy_queries
from tests.vllm_server import FaultyProxy, VllmServer

pytest.importorskip("httpx", reason="httpx is not installed")

NUM_QUERIES = int(os.environ.get("MEGATRON_SFT_TEACHER_QUERIES", "4"))
NUM_SAMPLES = 4
FAULTS = ("500", "hang", "drop", "503")


def fault_of(number: int) -> str | None:
    """Every fifth request fails, each kind in turn."""
    return FAULTS[number // 5 % 4] if number % 5 == 4 else None


@pytest.mark.vllm
@pytest.mark.slow
def test_faults_and_a_restart_lose_nothing(smollm2: Path, tmp_path: Path) -> None:
    pytest.importorskip("vllm", reason="vLLM is not installed")
    queries = easy_queries(NUM_QUERIES)
    inputs = write_rows(tmp_path / "queries.jsonl", queries)
    server = VllmServer(smollm2, tmp_path / "server")
    server.start()
    proxy = FaultyProxy(lambda: server.url, fault_of, hang_s=60)
    output = tmp_path / "traces"

    def kill_and_start() -> None:
        while sum(1 for _ in rows_of(output)) < NUM_QUERIES * NUM_SAMPLES // 3:
            time.sleep(0.2)
        server.kill()
        time.sleep(1)
        server.start()

    helper = threading.Thread(target=kill_and_start, daemon=True)
    helper.start()
    command = (
        f"--output {output} --endpoint {proxy.url} --model teacher --tokenizer {smollm2} --num-samples {NUM_SAMPLES}"
    )
    command += " --max-tokens 64 --max-num-seqs 16 --request-timeout 45 --retry-delay 0.2 --max-retry-delay 30"
    try:
        status = main([str(inputs), *command.split()])
        helper.join(timeout=300)
    finally:
        proxy.close()
        server.kill()
    assert status == 0
    assert not helper.is_alive()
    rows = read_traces(output)
    wanted = {(query["id"], sample) for query in queries for sample in range(NUM_SAMPLES)}
    assert len(rows) == len(wanted) == NUM_QUERIES * NUM_SAMPLES
    assert {(row["query_id"], row["sample"]) for row in rows} == wanted
    assert set(proxy.faults) == set(FAULTS[: proxy.num_requests // 5])
    answers = {query["id"]: query["answer"] for query in queries}
    num_right = sum(last_boxed(row["response"]) == answers[row["query_id"]] for row in rows)
    print(f"{len(rows)} samples, {num_right} right, {len(proxy.faults)} faults in {proxy.num_requests} requests")
    config = build_shards.BuildShardsConfig(
        inputs=(str(output / "traces-*.jsonl"),),
        output=tmp_path / "shards",
        tokenizer=smollm2,
        max_length=1024,
        verify="math",
        select="random-correct",
    )
    build_shards.main(config)
    kept = json.loads((tmp_path / "shards" / "manifest.json").read_text())["num_samples"]
    right = {row["query_id"] for row in rows if last_boxed(row["response"]) == answers[row["query_id"]]}
    print(f"{kept} of {len(queries)} queries have a sample in the shards")
    # Some right answers are not kept: a box in a trace without an end, say.
    assert 0 < kept <= len(right)
    # One in three is: a teacher that guesses numbers would get one in twenty.
    assert num_right >= len(rows) // 8


def rows_of(folder: Path) -> list[str]:
    return [line for file in folder.glob("traces-*.jsonl") for line in file.read_text().splitlines()]
