"""A server in place of an engine: the same records and results, and what it does not answer is asked again."""

import json
from pathlib import Path
from typing import Any

import pytest

from evals.evaluate import main
from megatron_sft.data.chat import ChatTokenizer
from tests.traces.conftest import Teacher

pytest.importorskip("httpx", reason="httpx is not installed")


@pytest.fixture
def server(tiny_tokenizer: Path) -> Any:
    found = Teacher(ChatTokenizer(tiny_tokenizer))
    found.start()
    yield found
    found.stop()


def evaluate(server: Teacher, tokenizer: Path, data: Path, output: Path, *options: str) -> int:
    command = ["--endpoint", server.url, "--model", "big", "--tokenizer", str(tokenizer), "--max-model-len", "256"]
    command += ["--tasks", "addition,countdown", "--data", str(data), "--output", str(output), "--max-tokens", "10"]
    return main([*command, "--num-samples-per-item", "2", "--top-k", "20", "--max-num-seqs", "4", *options])


def records(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for file in output.glob("generations/*/*.jsonl") for line in file.read_text().splitlines()]


def test_answers_of_a_server(server: Teacher, tiny_tokenizer: Path, data: Path, tmp_path: Path) -> None:
    assert evaluate(server, tiny_tokenizer, data, tmp_path / "out") == 0
    found = records(tmp_path / "out")
    assert len(found) == len(server.bodies) == 2 * (6 + 2)
    tokenizer = ChatTokenizer(tiny_tokenizer)
    by_seed = {body["seed"]: body for body in server.bodies}
    for record in found:
        body = by_seed[record["seed"]]
        assert (body["model"], body["temperature"], body["top_p"], body["top_k"]) == ("big", 0.6, 0.95, 20)
        ids = server.answer(body)["choices"][0]["token_ids"]
        assert record["token_ids"] == ids
        assert record["text"] == tokenizer.decode(ids[:-1] if record["finish_reason"] == "stop" else ids)
        assert record["engine"] == {"vllm": "0.99", "model": "big"}
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [(entry["task"], entry["name"], entry["num_samples"]) for entry in results] == [
        ("addition", "big", 12),
        ("countdown", "big", 4),
    ]
    assert evaluate(server, tiny_tokenizer, data, tmp_path / "out") == 0
    assert len(server.bodies) == 16, "nothing is asked again"


def test_a_server_that_tells_no_tokens(server: Teacher, tiny_tokenizer: Path, data: Path, tmp_path: Path) -> None:
    server.with_token_ids = False
    assert evaluate(server, tiny_tokenizer, data, tmp_path / "out", "--endpoint-dialect", "openai") == 0
    for record in records(tmp_path / "out"):
        assert record["text"] == f"seed {record['seed']}"
        assert record["token_ids"] == []
        assert record["num_tokens"] > 0


def test_what_is_not_answered_is_asked_again(
    server: Teacher, tiny_tokenizer: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.faults = lambda number: "refuse" if number == 3 else None
    assert evaluate(server, tiny_tokenizer, data, tmp_path / "out") == 2
    assert "1 of 16 answers could not be had, the first one because of status_400" in capsys.readouterr().err
    assert len(records(tmp_path / "out")) == 15
    assert not (tmp_path / "out" / "results.json").exists()
    assert evaluate(server, tiny_tokenizer, data, tmp_path / "out") == 0
    assert len(records(tmp_path / "out")) == 16
    assert len(server.bodies) == 17


def test_a_judge_without_anything_to_judge(
    server: Teacher, tiny_tokenizer: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(server, tiny_tokenizer, data, tmp_path / "out", "--judge", "j@http://127.0.0.1:1/v1") == 2
    assert "--judge has no effect" in capsys.readouterr().err
    assert server.bodies == []
