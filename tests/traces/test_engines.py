"""vLLM engines in process: a run that is killed and goes on gives the set of one that is not; devices are dealt out."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from megatron_sft.data import build_shards
from megatron_sft.data.chat import ChatTokenizer
from megatron_sft.generation.sharing import devices_of
from megatron_sft.traces.__main__ import main
from tests.traces.conftest import read_traces, write_rows

REPOSITORY = Path(__file__).resolve().parents[2]
NUM_QUERIES, NUM_SAMPLES = 8, 4
KILL_AFTER_ROWS = 6


def test_devices_are_dealt_out() -> None:
    assert [devices_of(number, 2, "") for number in range(2)] == ["0,1", "2,3"]
    assert [devices_of(number, 1, "3, 5") for number in range(2)] == ["3", "5"]
    # An engine that would have none finds none, and says so.
    assert devices_of(2, 1, "3,5") == "-1"


def arguments(model: Path, inputs: Path, output: Path) -> list[str]:
    sampling = f"--num-samples {NUM_SAMPLES} --max-tokens 48 --temperature 1.0 --max-num-seqs 4"
    return [str(inputs), "--output", str(output), "--model", str(model), *sampling.split()]


def without(names: tuple[str, ...], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name not in names} for row in rows]


def holders(file: Path) -> list[int]:
    """The processes that have a file open."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if any(os.readlink(link) == str(file.resolve()) for link in (process / "fd").iterdir()):
                found.append(int(process.name))
    return found


@pytest.mark.vllm
@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_set(random_model: Path, tmp_path: Path) -> None:
    pytest.importorskip("vllm", reason="vLLM is not installed")
    rows = [{"id": f"q{number}", "prompt": f"Compute {number} + 1.", "answer": "1"} for number in range(NUM_QUERIES)]
    inputs = write_rows(tmp_path / "queries.jsonl", rows)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert main([*arguments(random_model, inputs, whole), "--logprobs"]) == 0

    command = [sys.executable, "-m", "megatron_sft.traces", *arguments(random_model, inputs, killed), "--logprobs"]
    file = killed / "traces-0000-of-0001.jsonl"
    log = killed / "logs" / "engine-0000.log"
    for victim in ("program", "engine"):
        num_before = file.read_bytes().count(b"\n") if file.exists() else 0
        process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        while not file.exists() or file.read_bytes().count(b"\n") < num_before + KILL_AFTER_ROWS:
            assert process.poll() is None, "it must be killed before its end"
            time.sleep(0.002)
        (engine,) = holders(log)
        os.kill(process.pid if victim == "program" else engine, signal.SIGKILL)
        error = process.communicate()[1].decode()
        assert process.returncode == (-signal.SIGKILL if victim == "program" else 2)
        # As the kernel does when memory runs out.
        assert (victim == "engine") == ("its process ended with exit code -9" in error)
        assert num_before < file.read_bytes().count(b"\n") < NUM_QUERIES * NUM_SAMPLES
        # The engine must not outlive its caller: it holds the memory that the next one needs.
        deadline = time.monotonic() + 30
        while holders(log) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert holders(log) == []
    before = file.read_bytes().splitlines(keepends=True)
    assert main([*arguments(random_model, inputs, killed), "--logprobs"]) == 0
    assert file.read_bytes().startswith(b"".join(line for line in before if line.endswith(b"\n")))

    found = read_traces(killed)
    assert len(found) == NUM_QUERIES * NUM_SAMPLES
    expected = read_traces(whole)
    assert without(("engine", "token_logprobs"), found) == without(("engine", "token_logprobs"), expected)
    # Their last digits depend on what else was in the batch.
    for row, other in zip(found, expected, strict=True):
        assert row["token_logprobs"] == pytest.approx(other["token_logprobs"], abs=1e-4)
    assert len({row["response"] for row in found}) > len(found) * 0.9, "samples must differ to show anything"
    tokenizer = ChatTokenizer(random_model)
    for row in found:
        stops = row["finish_reason"] == "stop"
        assert row["num_tokens"] == len(row["token_ids"]) == len(row["token_logprobs"])
        assert (row["token_ids"][-1] in tokenizer.stop_ids) == stops
        assert stops or row["num_tokens"] == 48
        assert row["response"] == tokenizer.decode(row["token_ids"][:-1] if stops else row["token_ids"])
        assert all(value <= 0 for value in row["token_logprobs"])
        assert row["engine"]["vllm"]


@pytest.mark.vllm
@pytest.mark.slow
def test_two_engines_share_the_queries_and_the_rows_feed_the_shards(
    random_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("vllm", reason="vLLM is not installed")
    rows = [{"id": f"q{number}", "prompt": f"Say {number}.", "answer": "1"} for number in range(6)]
    inputs = write_rows(tmp_path / "queries.jsonl", [*rows, {"id": "long", "prompt": "Too long. " * 60}])
    output = tmp_path / "traces"
    command = [*arguments(random_model, inputs, output), "--kv-cache-gib", "0.05", "--data-parallel-size", "2"]
    assert main(command) == 2
    assert f"{NUM_SAMPLES} samples of 1 queries failed" in capsys.readouterr().err
    found = read_traces(output)
    assert [row["query_id"] for row in found] == [f"q{number}" for number in range(6) for _ in range(NUM_SAMPLES)]

    config = build_shards.BuildShardsConfig(
        inputs=(str(output / "traces-*.jsonl"),),
        output=tmp_path / "shards",
        tokenizer=random_model,
        max_length=256,
        select="first-correct",
        filters=build_shards.FilterConfig(think="off", max_loop_share=None, max_undecodable_share=None),
    )
    build_shards.main(config)
    assert '"num_samples": 6' in (tmp_path / "shards" / "manifest.json").read_text()
