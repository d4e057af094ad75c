"""The client of OpenAI-compatible servers as the evaluation uses it; tests/traces/test_endpoint.py has the faults."""

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from megatron_sft.data.chat import ChatTokenizer
from megatron_sft.errors import ConfigError, IncompleteError
from megatron_sft.generation.endpoint_protocol import (
    ChatRequest,
    EndpointReport,
    EndpointSettings,
    PermanentError,
    ScoreRequest,
    TextCompletion,
    TransientError,
    address_of,
    body_of,
    parse_answer,
    refusal,
)
from megatron_sft.generation.engine_messages import Completion, Request
from tests.evals.judges.conftest import JudgeServer

pytest.importorskip("httpx", reason="httpx is not installed")

from megatron_sft.generation.endpoint import run_endpoint

CHAT = ChatRequest(key="c", messages=[{"role": "user", "content": "Hi"}], max_tokens=9)
SCORE = ScoreRequest(key="s", messages=[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes"}])


def request_of(number: int) -> Request:
    return Request(
        key=f"k{number}",
        prompt_token_ids=[5, 6, 7 + number],
        temperature=0.6,
        top_p=0.9,
        max_tokens=10,
        stop_token_ids=[2],
        seed=number,
    )


@pytest.fixture
def server(tiny_tokenizer: Path) -> Iterator[JudgeServer]:
    """A server that is up."""
    server = JudgeServer(ChatTokenizer(tiny_tokenizer))
    server.start()
    yield server
    server.stop()


def settings_of(server: JudgeServer, **changes: Any) -> EndpointSettings:
    quick = EndpointSettings(
        url=server.url, model="big", max_num_requests=3, max_attempts=3, retry_delay=0.01, max_retry_delay=0.05
    )
    return replace(quick, **changes)


def test_answers_come_in_the_form_of_an_engine(server: JudgeServer) -> None:
    # Fewer than attempts, so that no request can meet faults alone.
    server.faults = lambda number: "500" if number in (1, 4) else None
    report = EndpointReport()
    taken: list[int] = []

    def requests() -> Iterator[Request]:
        for number in range(8):
            taken.append(number)
            yield request_of(number)

    found: dict[str, Completion | TextCompletion] = {}
    for batch in run_endpoint(settings_of(server), requests(), report):
        assert report.versions == {"vllm": "0.99", "model": "big"}
        # No more are drawn than there is room for: those under way, and those that are answered.
        assert len(taken) <= len(found) + len(batch) + 3 + 3
        found |= {completion.key: completion for completion in batch}
    assert sorted(found) == [f"k{number}" for number in range(8)]
    for number in range(8):
        body = next(body for body in server.bodies if body["seed"] == number)
        choice = server.answer(body)["choices"][0]
        completion = found[f"k{number}"]
        assert isinstance(completion, Completion)
        assert (completion.token_ids, completion.finish_reason) == (choice["token_ids"], choice["finish_reason"])
    assert report.num_tokens == sum(len(completion.token_ids) for completion in found.values())  # type: ignore[union-attr]
    assert report.generate_s > 0
    assert report.failures == []


def test_failures_are_collected_and_the_others_go_on(server: JudgeServer) -> None:
    kinds = {2: "500", 5: "refuse"}
    server.faults = lambda number: kinds.get(server.bodies[number]["seed"])
    report = EndpointReport()
    batches = list(run_endpoint(settings_of(server), map(request_of, range(8)), report))
    assert sorted(completion.key for batch in batches for completion in batch) == ["k0", "k1", "k3", "k4", "k6", "k7"]
    failures = {failure.key: failure for failure in report.failures}
    assert {key: failure.reason for key, failure in failures.items()} == {"k2": "status_500", "k5": "status_400"}
    assert "after 3 attempts" in failures["k2"].detail
    assert "the prompt is too long" in failures["k5"].detail


def test_a_plain_thread_can_ask(server: JudgeServer) -> None:
    keys: list[str] = []

    def work() -> None:
        for batch in run_endpoint(settings_of(server), map(request_of, range(5)), EndpointReport()):
            keys.extend(completion.key for completion in batch)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert sorted(keys) == sorted(2 * [f"k{number}" for number in range(5)])


def test_a_caller_may_stop_reading(server: JudgeServer) -> None:
    batches = run_endpoint(settings_of(server, max_num_requests=2), map(request_of, range(100)), EndpointReport())
    next(batches)
    batches.close()
    assert len(server.bodies) <= 6


def test_what_failed_before_the_end_is_reported(server: JudgeServer) -> None:
    server.faults = lambda number: "401"
    report = EndpointReport()
    with pytest.raises(IncompleteError, match="no answer to 3 requests in a row"):
        list(run_endpoint(settings_of(server), map(request_of, range(8)), report))
    assert {failure.reason for failure in report.failures} == {"status_401"}
    assert 3 <= len(report.failures) < 8


def test_chat_gives_text(server: JudgeServer) -> None:
    server.says = lambda question: f"You said {question}"
    report = EndpointReport()
    ((answer,),) = run_endpoint(settings_of(server, dialect="openai"), [CHAT], report)
    assert answer == TextCompletion(key="c", text="You said Hi", num_tokens=3, finish_reason="stop")
    assert report.versions == {"model": "big", "system_fingerprint": "fp-1"}
    assert server.bodies[0].keys() == {"model", "messages", "max_tokens", "temperature", "top_p", "n"}


def test_a_key_that_is_not_set(server: JudgeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOME_KEY", raising=False)
    with pytest.raises(ConfigError, match="SOME_KEY: this variable is not set"):
        list(run_endpoint(settings_of(server, api_key_variable="SOME_KEY"), [CHAT], EndpointReport()))


def test_an_address_that_is_none(server: JudgeServer) -> None:
    with pytest.raises(ConfigError, match="'http://host:port/v1' is no address"):
        list(run_endpoint(settings_of(server, url="http://host:port/v1"), [CHAT], EndpointReport()))


def test_bodies_by_dialect() -> None:
    vllm = EndpointSettings(url="http://host/v1", model="big")
    plain = replace(vllm, dialect="openai")
    request = replace(request_of(1), presence_penalty=0.1, frequency_penalty=0.2, top_k=50, min_p=0.01)
    common = {
        "model": "big",
        "prompt": [5, 6, 8],
        "max_tokens": 10,
        "temperature": 0.6,
        "top_p": 0.9,
        "n": 1,
        "seed": 1,
    }
    penalties = {"presence_penalty": 0.1, "frequency_penalty": 0.2}
    assert body_of(request, plain) == common | penalties
    own = {"top_k": 50, "min_p": 0.01, "repetition_penalty": 1.0, "stop_token_ids": [2]}
    own |= {"return_token_ids": True, "skip_special_tokens": False}
    assert body_of(request, vllm) == common | penalties | own
    assert body_of(request_of(1), plain) == common
    # A judge must not be sampled as the model's generation_config.json has it.
    assert body_of(CHAT, vllm).items() >= {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}.items()
    assert body_of(SCORE, vllm) == {"model": "big", "messages": SCORE.messages, "use_activation": False}
    addresses = [address_of(request, "http://host/v1") for request in (request_of(1), CHAT, SCORE)]
    assert addresses == ["http://host/v1/completions", "http://host/v1/chat/completions", "http://host/classify"]


def chat_content(content: Any = "Yes", finish_reason: str = "stop", num_tokens: Any = 4) -> bytes:
    choice = {"message": {"content": content}, "finish_reason": finish_reason}
    return json.dumps({"choices": [choice], "usage": {"completion_tokens": num_tokens}}).encode()


def test_a_chat_answer_is_read() -> None:
    answer = parse_answer(chat_content(), CHAT, "vllm")
    assert (answer.text, answer.num_tokens, answer.token_ids) == ("Yes", 4, None)
    assert parse_answer(chat_content("a\ud83d\ude00\ud83d!"), CHAT, "vllm").text == "a\U0001f600\ufffd!"
    # Cut off within a trace that the server keeps to itself.
    assert parse_answer(chat_content(None, "length"), CHAT, "vllm").text == ""
    with pytest.raises(PermanentError, match="filter withheld") as filtered:
        parse_answer(chat_content("", "content_filter"), CHAT, "openai")
    assert not filtered.value.everywhere
    for content in (chat_content(5), chat_content("a", "abort"), chat_content("a", "stop", "4"), b"{}", b"<html>"):
        with pytest.raises(TransientError):
            parse_answer(content, CHAT, "vllm")


def test_a_score_is_read() -> None:
    def content(*scores: Any) -> bytes:
        return json.dumps({"data": [{"probs": scores}], "usage": {"prompt_tokens": 7}}).encode()

    answer = parse_answer(content(-1.25), SCORE, "vllm")
    assert (answer.text, answer.num_tokens, answer.finish_reason) == ("-1.25", 7, "stop")
    with pytest.raises(PermanentError, match="expected one number") as several:
        parse_answer(content(0.1, 0.9), SCORE, "vllm")
    assert several.value.everywhere
    with pytest.raises(TransientError):
        parse_answer(b'{"data": []}', SCORE, "vllm")


@pytest.mark.parametrize(
    ("status", "retry_after", "transient", "wait_s"),
    [
        (429, "7", True, 7.0),
        (503, "soon", True, 0.0),
        (500, "-1", True, 0.0),
        (503, "1e9", True, 0.0),
        (400, "7", False, 0.0),
    ],
)
def test_refusals(status: int, retry_after: str, transient: bool, wait_s: float) -> None:
    error = refusal(status, "no", retry_after)
    assert isinstance(error, TransientError) is transient
    assert (error.reason, getattr(error, "wait_s", 0.0)) == (f"status_{status}", wait_s)
