"""Answers by a server with OpenAI's API: many requests at a time, tried again with growing pauses.

`ask` answers any calls; `run_endpoint` has the form of `megatron_sft.generation.engine.run_engine`. Both are plain
generators that run an event loop of their own between two batches: while the caller holds a batch, nothing is sent.
"""

import asyncio
import os
import random
import time
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Generic, TypeAlias, TypeVar

from megatron_sft.errors import ConfigError, EnvironmentProblem, IncompleteError
from megatron_sft.generation.endpoint_protocol import (
    SHOWN_CHARS,
    Answer,
    AnyRequest,
    EndpointReport,
    EndpointSettings,
    PermanentError,
    RequestFailure,
    TextCompletion,
    TransientError,
    address_of,
    body_of,
    parse_answer,
    refusal,
    root_of,
)
from megatron_sft.generation.engine_messages import Completion

try:
    import httpx
except ImportError as error:
    raise EnvironmentProblem('an endpoint needs the package httpx: install the extra "eval"') from error

CONNECT_TIMEOUT_S = 30.0
NOTICE_INTERVAL_S = 30.0

Subject = TypeVar("Subject")


@dataclass(frozen=True, kw_only=True)
class Call(Generic[Subject]):
    """One answer to have."""

    subject: Subject
    """What the caller knows it by; comes back with the outcome."""
    request: AnyRequest
    group: str
    """Calls of one group ask the same: a server that refuses several of them may still take the others."""


@dataclass(frozen=True, kw_only=True)
class Answered(Generic[Subject]):
    """A call that was answered."""

    subject: Subject
    answer: Answer
    engine: dict[str, Any]
    """What is known of the server's engine: `{vllm, model}`, or `{model, system_fingerprint}`."""


@dataclass(frozen=True, kw_only=True)
class Failed(Generic[Subject]):
    """A call that could not be answered, or not in `max_attempts` attempts."""

    subject: Subject
    reason: str
    """One word for one kind, to be counted."""
    detail: str


Outcome: TypeAlias = Answered[Subject] | Failed[Subject]


def run_endpoint(
    settings: EndpointSettings, requests: Iterable[AnyRequest], report: EndpointReport
) -> Generator[list[Completion | TextCompletion], None, None]:
    """Yield the answers of a server in batches, as they come; requests that fail are in `report.failures`.

    Token-id requests in the dialect "vllm" become `Completion`s, all others `TextCompletion`s. `requests` is read as
    there is room; their keys are unique. All answers of a batch have the same `report.versions`.

    Raises:
        ConfigError: when the address cannot be one, or the variable for the key is not set.
        IncompleteError: when as many requests in a row as are under way at a time had no answer.
    """
    began = time.perf_counter()
    calls = (Call(subject=request.key, request=request, group=request.key) for request in requests)
    for outcomes in ask(settings, calls):
        answered = [outcome for outcome in outcomes if isinstance(outcome, Answered)]
        report.failures += [
            RequestFailure(key=outcome.subject, reason=outcome.reason, detail=outcome.detail)
            for outcome in outcomes
            if isinstance(outcome, Failed)
        ]
        report.num_tokens += sum(outcome.answer.num_tokens for outcome in answered)
        report.generate_s = time.perf_counter() - began
        for engine, batch in groupby(answered, key=lambda outcome: outcome.engine):
            report.versions = engine
            yield [completion_of(outcome.subject, outcome.answer) for outcome in batch]


def completion_of(key: str, answer: Answer) -> Completion | TextCompletion:
    """Return a server's answer in the form of an engine's, where it tells tokens."""
    if answer.token_ids is None:
        return TextCompletion(
            key=key, text=answer.text, num_tokens=answer.num_tokens, finish_reason=answer.finish_reason
        )
    return Completion(key=key, token_ids=answer.token_ids, finish_reason=answer.finish_reason, logprobs=answer.logprobs)


def ask(settings: EndpointSettings, calls: Iterable[Call[Subject]]) -> Generator[list[Outcome[Subject]], None, None]:
    """Yield what becomes of the calls, as it does; `calls` is read as there is room.

    Runs in any thread that has no running event loop. A caller that stops reading cancels what is under way.

    Raises:
        ConfigError: when the address cannot be one, or the variable for the key is not set.
        IncompleteError: when as many calls in a row as are under way at a time had no answer.
    """
    try:
        httpx.URL(settings.url)
    except httpx.InvalidURL as error:
        raise ConfigError(f"{settings.url!r} is no address ({error}): write it as http://localhost:8000/v1") from error
    session: _Session[Subject] = _Session(settings, auth_headers(settings))
    with asyncio.Runner() as runner:
        work = runner.get_loop().create_task(session.run(iter(calls)))
        while not work.done():
            runner.run(session.news(work))
            if outcomes := session.taken():
                yield outcomes
        work.result()


def auth_headers(settings: EndpointSettings) -> dict[str, str]:
    """Return the header with the server's key.

    Raises:
        ConfigError: when its variable is not set.
    """
    if settings.api_key_variable is None:
        return {}
    key = os.environ.get(settings.api_key_variable)
    if not key:
        raise ConfigError(f"--api-key-variable {settings.api_key_variable}: this variable is not set")
    return {"Authorization": f"Bearer {key}"}


class _Session(Generic[Subject]):
    """The requests of one run."""

    def __init__(self, settings: EndpointSettings, headers: dict[str, str]) -> None:
        self._settings = settings
        self._url = settings.url.rstrip("/")
        self._headers = headers
        self._version: str | None = None
        self._outcomes: list[Outcome[Subject]] = []
        self._arrived = asyncio.Event()
        self._num_given_up = 0
        """Requests given up since the last success, for reasons that do not lie in the request."""
        self._num_repeated = 0
        self._next_notice = time.monotonic()
        self._refused: set[str] | None = set()
        """Groups of which a call was refused before the first success; None after it."""

    async def news(self, work: "asyncio.Task[None]") -> None:
        """Return when there are outcomes, or when `work` ended."""
        arrival = asyncio.create_task(self._arrived.wait())
        try:
            await asyncio.wait((arrival, work), return_when=asyncio.FIRST_COMPLETED)
        finally:
            arrival.cancel()

    def taken(self) -> list[Outcome[Subject]]:
        """Return the outcomes since the last call."""
        outcomes, self._outcomes = self._outcomes, []
        self._arrived.clear()
        return outcomes

    async def run(self, calls: Iterator[Call[Subject]]) -> None:
        """Answer all calls, `max_num_requests` at a time."""
        num = self._settings.max_num_requests
        timeout = httpx.Timeout(self._settings.request_timeout, connect=CONNECT_TIMEOUT_S)
        limits = httpx.Limits(max_connections=num, max_keepalive_connections=num)
        async with httpx.AsyncClient(timeout=timeout, limits=limits, headers=self._headers) as client:
            tasks = [asyncio.create_task(self._work(client, calls)) for _ in range(num)]
            try:
                await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()

    async def _work(self, client: "httpx.AsyncClient", calls: Iterator[Call[Subject]]) -> None:
        # All workers draw from one iterator; there is one thread, and no pause within `next`.
        for call in calls:
            try:
                answer = await self._answer(client, call.request)
            except TransientError as error:
                detail = f"{error} (after {self._settings.max_attempts} attempts)"
                self._give_up(call, error.reason, detail, everywhere=True)
                continue
            except PermanentError as error:
                self._give_up(call, error.reason, str(error), everywhere=error.everywhere)
                continue
            self._num_given_up, self._refused = 0, None
            self._put(Answered(subject=call.subject, answer=answer, engine=await self._engine(client, answer)))

    def _put(self, outcome: Outcome[Subject]) -> None:
        self._outcomes.append(outcome)
        self._arrived.set()

    def _give_up(self, call: Call[Subject], reason: str, detail: str, *, everywhere: bool) -> None:
        self._put(Failed(subject=call.subject, reason=reason, detail=detail))
        self._num_given_up += everywhere
        if self._refused is not None:
            self._refused.add(call.group)
        # As many as there are workers, and no answer since: the rest would only take its time.
        if max(self._num_given_up, len(self._refused or ())) >= self._settings.max_num_requests:
            raise IncompleteError(
                f"{self._url}: no answer to {self._settings.max_num_requests} requests in a row; the last failed "
                f"with: {detail}. What was answered is on file; mend the server or the options and run the same "
                "command again"
            )

    async def _answer(self, client: "httpx.AsyncClient", request: AnyRequest) -> Answer:
        settings = self._settings
        for attempt in range(settings.max_attempts):
            try:
                return await self._ask(client, request)
            except TransientError as error:
                if attempt + 1 == settings.max_attempts:
                    raise
                self._say(f"{error.reason}: {error}")
                # Jitter keeps the workers from all coming back at the same moment.
                pause = min(settings.max_retry_delay, settings.retry_delay * 2**attempt) * random.uniform(0.5, 1.0)
                await asyncio.sleep(max(pause, error.wait_s))
        raise AssertionError("unreachable")

    def _say(self, trouble: str) -> None:
        """Report now and then that requests have to be repeated, since a long pause would look like a hang."""
        self._num_repeated += 1
        if time.monotonic() >= self._next_notice:
            self._next_notice = time.monotonic() + NOTICE_INTERVAL_S
            print(f"{self._num_repeated} requests repeated so far, this one after {trouble[:SHOWN_CHARS]}", flush=True)

    async def _ask(self, client: "httpx.AsyncClient", request: AnyRequest) -> Answer:
        url = address_of(request, self._url)
        try:
            # The time-out of the library is for each part of an answer; a server that trickles would never end.
            async with asyncio.timeout(self._settings.request_timeout):
                response = await client.post(url, json=body_of(request, self._settings))
        except TimeoutError as error:
            raise TransientError("timeout", f"no answer within {self._settings.request_timeout:g} s") from error
        except httpx.TimeoutException as error:
            raise TransientError("timeout", f"{type(error).__name__}: {error}") from error
        except (httpx.TransportError, httpx.DecodingError) as error:
            # Perhaps a restart, and with it another version.
            self._version = None
            raise TransientError("connection", f"{type(error).__name__}: {error}") from error
        if response.status_code != 200:
            raise refusal(response.status_code, response.text, response.headers.get("Retry-After"))
        return parse_answer(response.content, request, self._settings.dialect)

    async def _engine(self, client: "httpx.AsyncClient", answer: Answer) -> dict[str, Any]:
        """Return what is known of the server's engine."""
        model = self._settings.model
        if self._settings.dialect == "openai":
            return {"model": model, "system_fingerprint": answer.system_fingerprint}
        if self._version is None:
            try:
                reply = await client.get(f"{root_of(self._url)}/version", timeout=CONNECT_TIMEOUT_S)
                self._version = str(reply.json()["version"]) if reply.status_code == 200 else "unknown"
            except (httpx.HTTPError, ValueError, KeyError, TypeError):
                # The answer is there, and must not be lost for want of a version.
                return {"vllm": "unknown", "model": model}
        return {"vllm": self._version, "model": model}
