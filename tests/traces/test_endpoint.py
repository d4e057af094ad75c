"""The whole program with a server on loopback: what it asks for and files, and what it does when the server fails."""

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from megatron_sft.data.chat import ChatTokenizer
from megatron_sft.traces.__main__ import main
from megatron_sft.traces.work import seed_of
from tests.traces.conftest import PROMPTS, Teacher, read_traces, write_rows

pytest.importorskip("httpx", reason="httpx is not installed")

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def generate(teacher: Teacher, tiny_tokenizer: Path, queries: Path, tmp_path: Path) -> Any:
    """Run the program on the four queries, three samples each."""

    def run(output: str = "traces", *options: str, inputs: Path = queries) -> int:
        return main(command(str(inputs), str(tmp_path / output), teacher.url, str(tiny_tokenizer)) + list(options))

    return run


def command(inputs: str, output: str, url: str, tokenizer: str) -> list[str]:
    """The arguments that all runs have."""
    common = "--model big --num-samples 3 --max-tokens 10 --retry-delay 0.01 --max-retry-delay 0.05"
    return [inputs, "--output", output, "--endpoint", url, "--tokenizer", tokenizer, *common.split()]


def failures(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for file in folder.glob("failures-*.jsonl") for line in file.read_text().splitlines()]


def test_rows_and_requests(generate: Any, teacher: Teacher, tiny_tokenizer: Path, tmp_path: Path) -> None:
    assert generate("traces", "--logprobs") == 0
    tokenizer = ChatTokenizer(tiny_tokenizer)
    rows = read_traces(tmp_path / "traces")
    assert [(row["query_id"], row["sample"]) for row in rows] == [(f"q{q}", s) for q in range(4) for s in range(3)]
    bodies = {body["seed"]: body for body in teacher.bodies}
    assert len(bodies) == len(teacher.bodies) == 12
    for row in rows:
        number = int(row["query_id"][1])
        message = [{"role": "user", "content": PROMPTS[number]}]
        assert row["message"] == message
        assert (row["answer"], row["source"]) == (str(number), "here")
        assert row["seed"] == seed_of(0, row["query_id"], row["sample"])
        body = bodies[row["seed"]]
        assert body["prompt"] == tokenizer.encode_prompt(message)
        answer = teacher.answer(body)["choices"][0]
        assert row["finish_reason"] == answer["finish_reason"]
        stops = answer["finish_reason"] == "stop"
        assert row["response"] == tokenizer.decode(answer["token_ids"][:-1] if stops else answer["token_ids"])
        assert row["num_tokens"] == len(row["token_ids"]) == len(row["token_logprobs"]) <= 10
        assert row["engine"] == {"vllm": "0.99", "model": "big"}
        assert row["sampling"] == {"temperature": 0.6, "top_p": 0.95, "top_k": 20, "min_p": 0.0, "max_tokens": 10}
    assert {row["finish_reason"] for row in rows} == {"stop", "length"}
    expected = {"model": "big", "top_k": 20, "skip_special_tokens": False, "repetition_penalty": 1.0, "logprobs": 0}
    assert teacher.bodies[0].items() >= expected.items()
    manifest = json.loads((tmp_path / "traces" / "manifest.json").read_text())
    assert (manifest["num_rows"], manifest["num_queries"]) == (12, 4)
    assert manifest["files"] == {"traces-0000-of-0001.jsonl": 12}


def test_faults_are_retried_and_change_nothing(
    generate: Any, teacher: Teacher, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert generate("calm") == 0
    num_calm = len(teacher.bodies)
    kinds = ["500", "cut", "drop", "garbage", "429", "hang", "503"]
    # Every other request fails, each kind at least once.
    teacher.faults = lambda number: kinds[number // 2 % 7] if number % 2 else None
    assert generate("stormy", "--request-timeout", "0.5", "--max-num-seqs", "2") == 0
    assert len(teacher.bodies) - num_calm >= 12 + 7
    assert "1 requests repeated so far, this one after " in capsys.readouterr().out
    assert read_traces(tmp_path / "stormy") == read_traces(tmp_path / "calm")
    assert failures(tmp_path / "stormy") == []


def test_a_restart_of_the_server_is_waited_for(generate: Any, teacher: Teacher, tmp_path: Path) -> None:
    assert generate("calm") == 0
    start = len(teacher.bodies)

    def restart() -> None:
        while len(teacher.bodies) < start + 4:
            time.sleep(0.005)
        teacher.stop()
        time.sleep(0.5)
        teacher.version = "1.00"
        teacher.start()

    thread = threading.Thread(target=restart)
    thread.start()
    # Slow enough for the restart to fall into the run.
    teacher.faults = lambda number: time.sleep(0.1)
    try:
        assert generate("restarted", "--max-num-seqs", "1", "--max-attempts", "100") == 0
    finally:
        thread.join()
    restarted, calm = read_traces(tmp_path / "restarted"), read_traces(tmp_path / "calm")
    assert [row["response"] for row in restarted] == [row["response"] for row in calm]
    assert {row["engine"]["vllm"] for row in restarted} == {"0.99", "1.00"}


def test_failures_are_reported_and_tried_again(
    generate: Any, teacher: Teacher, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seeds = [seed_of(0, "q2", sample) for sample in range(3)]
    teacher.faults = lambda number: "500" if teacher.bodies[number]["seed"] in seeds[:2] else None
    assert generate("traces", "--max-attempts", "3") == 2
    assert "2 samples of 1 queries failed" in capsys.readouterr().err
    found = failures(tmp_path / "traces")
    assert sorted(failure["samples"] for failure in found) == [[0], [1]]
    assert {(failure["query_id"], failure["reason"]) for failure in found} == {("q2", "status_500")}
    assert found[0]["where"].endswith("queries.jsonl:3")
    assert "after 3 attempts" in found[0]["detail"]
    assert not (tmp_path / "traces" / "manifest.json").exists()
    assert len(read_traces(tmp_path / "traces")) == 10
    assert sum(body["seed"] == seeds[0] for body in teacher.bodies) == 3

    before = len(teacher.bodies)
    teacher.faults = lambda number: None
    assert generate() == 0
    assert len(teacher.bodies) - before == 2
    assert failures(tmp_path / "traces") == []
    assert (tmp_path / "traces" / "manifest.json").exists()
    rows = read_traces(tmp_path / "traces")
    assert generate("fresh") == 0
    assert rows == read_traces(tmp_path / "fresh")


def test_a_refused_query_is_not_tried_again(generate: Any, teacher: Teacher, tmp_path: Path) -> None:
    seed = seed_of(0, "q0", 0)
    teacher.faults = lambda number: "refuse" if teacher.bodies[number]["seed"] == seed else None
    assert generate() == 2
    assert [failure["reason"] for failure in failures(tmp_path / "traces")] == ["status_400"]
    assert sum(body["seed"] == seed for body in teacher.bodies) == 1


def test_a_server_that_never_answers_ends_the_run(
    generate: Any, teacher: Teacher, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher.faults = lambda number: "401"
    assert generate("traces", "--max-num-seqs", "2") == 2
    assert "no answer to 2 requests in a row" in capsys.readouterr().err
    assert len(teacher.bodies) < 12
    teacher.stop()
    assert generate("traces", "--max-num-seqs", "2", "--max-attempts", "2") == 2
    assert "ConnectError" in capsys.readouterr().err


def test_other_servers(generate: Any, teacher: Teacher, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    teacher.with_token_ids = False
    assert generate("traces", "--max-num-seqs", "2") == 2
    assert "--endpoint-dialect openai" in capsys.readouterr().err

    assert generate("plain", "--endpoint-dialect", "openai", "--top-k", "0") == 0
    rows = read_traces(tmp_path / "plain")
    assert [row["response"] for row in rows] == [f"seed {row['seed']}" for row in rows]
    assert rows[0]["engine"] == {"model": "big", "system_fingerprint": "fp-1"}
    allowed = {"model", "prompt", "max_tokens", "temperature", "top_p", "n", "seed"}
    assert teacher.bodies[-1].keys() == allowed


def test_the_same_command_adds_nothing_and_another_is_refused(
    generate: Any, teacher: Teacher, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert generate() == 0
    content = {file.name: file.read_bytes() for file in (tmp_path / "traces").glob("*.json*")}
    assert generate() == 0
    assert len(teacher.bodies) == 12
    assert {file.name: file.read_bytes() for file in (tmp_path / "traces").glob("*.json*")} == content
    capsys.readouterr()
    assert generate("traces", "--temperature", "0.7", "--seed", "1") == 2
    error = capsys.readouterr().err
    assert "--temperature: 0.6 there, 0.7 now" in error
    assert "--seed: 0 there, 1 now" in error
    assert "--top-p" not in error
    # More samples add to those that are there, fewer would leave rows that nobody asked for.
    assert generate("traces", "--num-samples", "4") == 0
    assert len(teacher.bodies) == 16
    assert generate("traces", "--num-samples", "2") == 2
    assert "beyond --num-samples 2" in capsys.readouterr().err
    assert generate("traces", "--num-samples", "4", "--limit", "2") == 2
    assert "is not in the input: give all inputs" in capsys.readouterr().err


def test_a_changed_query_is_refused(
    generate: Any, tmp_path: Path, queries: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert generate() == 0
    rows = [json.loads(line) for line in queries.read_text().splitlines()]
    rows[1]["answer"] = "another"
    write_rows(queries, rows)
    assert generate() == 2
    error = capsys.readouterr().err
    assert "the query 'q1' had another prompt or other columns than in" in error
    assert "queries.jsonl:2" in error


def test_processes_share_a_folder(
    generate: Any, teacher: Teacher, tiny_tokenizer: Path, queries: Path, tmp_path: Path
) -> None:
    common = command(str(queries), str(tmp_path / "shared"), teacher.url, str(tiny_tokenizer))
    split = ["--data-parallel-size", "2", "--data-parallel-rank"]
    program = [sys.executable, "-m", "megatron_sft.traces"]
    processes = [subprocess.Popen([*program, *common, *split, str(rank)], cwd=REPOSITORY) for rank in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    assert len(teacher.bodies) == 12
    rows = read_traces(tmp_path / "shared")
    manifest = json.loads((tmp_path / "shared" / "manifest.json").read_text())
    assert manifest["files"] == {"traces-0000-of-0002.jsonl": 6, "traces-0001-of-0002.jsonl": 6}
    # One process goes on where two were stopped in the middle, one of them within a line.
    second = tmp_path / "shared" / "traces-0001-of-0002.jsonl"
    second.write_bytes(b"".join(second.read_bytes().splitlines(keepends=True)[:4])[:-20])
    assert generate("shared") == 0
    assert len(teacher.bodies) == 15
    assert read_traces(tmp_path / "shared") == rows


def test_prompts_that_do_not_fit_are_reported(
    generate: Any, teacher: Teacher, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = write_rows(
        tmp_path / "long.jsonl", [{"prompt": "What is 1 + 1?"}, {"id": "far", "prompt": "too long " * 100}]
    )
    assert generate("traces", "--max-model-len", "200", inputs=long) == 2
    assert "3 samples of 1 queries failed" in capsys.readouterr().err
    (failure,) = failures(tmp_path / "traces")
    assert (failure["query_id"], failure["samples"], failure["reason"]) == ("far", [0, 1, 2], "prompt_too_long")
    assert "exceeds the context of 200" in failure["detail"]
    assert len(read_traces(tmp_path / "traces")) == 3
