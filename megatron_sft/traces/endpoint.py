"""Answers by a server with OpenAI's API: many requests at a time, tried again with growing pauses."""

import asyncio
import json
import os
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from megatron_sft.errors import ConfigError, EnvironmentProblem, IncompleteError
from megatron_sft.generation.engine import Completion
from megatron_sft.traces.config import GenerateTracesConfig
from megatron_sft.traces.work import Backend, Desk, Failure, Job

try:
    import httpx
except ImportError as error:
    raise EnvironmentProblem('--endpoint needs the package httpx: install the extra "eval"') from error

CONNECT_TIMEOUT_S = 30.0
NOTICE_INTERVAL_S = 30.0
SHOWN_CHARS = 300
TRANSIENT_STATUS = frozenset((408, 409, 425, 429))
"""Refusals that pass; so do all from 500 on."""
STATUS_OF_SETTINGS = frozenset((401, 403, 404))
"""Refusals that every request would meet."""


class TransientError(Exception):
    """What another attempt may mend."""

    def __init__(self, reason: str, detail: str, wait_s: float = 0.0) -> None:
        super().__init__(detail)
        self.reason = reason
        self.wait_s = wait_s
        """Seconds that the server asks to wait."""


class PermanentError(Exception):
    """What another attempt would meet again."""

    def __init__(self, reason: str, detail: str, *, everywhere: bool = False) -> None:
        super().__init__(detail)
        self.reason = reason
        self.everywhere = everywhere
        """Whether other requests would meet it too."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the server gave; `token_ids` and `logprobs` are None where it does not tell them."""

    text: str
    token_ids: list[int] | None
    logprobs: list[float] | None
    num_tokens: int
    finish_reason: str
    system_fingerprint: str | None


def endpoint_backend(config: GenerateTracesConfig) -> Backend:
    """Return the backend that asks `config.endpoint`.

    Raises:
        ConfigError: when the variable for the key is not set.
    """
    headers = {}
    if config.api_key_variable is not None:
        key = os.environ.get(config.api_key_variable)
        if not key:
            raise ConfigError(f"--api-key-variable {config.api_key_variable}: this variable is not set")
        headers["Authorization"] = f"Bearer {key}"
    return lambda jobs, desk: asyncio.run(_Session(config, headers, desk).run(jobs))


class _Session:
    """The requests of one run."""

    def __init__(self, config: GenerateTracesConfig, headers: dict[str, str], desk: Desk) -> None:
        assert config.endpoint is not None
        self._config = config
        self._desk = desk
        self._url = config.endpoint.rstrip("/")
        self._headers = headers
        self._version: str | None = None
        self._num_given_up = 0
        """Requests given up since the last success, for reasons that do not lie in the query."""
        self._num_repeated = 0
        self._next_notice = time.monotonic()
        self._refused: set[str] | None = set()
        """Ids of the queries that were refused before the first success; None after it."""

    async def run(self, jobs: Iterator[Job]) -> None:
        """Answer all jobs, `max_num_seqs` at a time."""
        num = self._config.max_num_seqs
        timeout = httpx.Timeout(self._config.request_timeout, connect=CONNECT_TIMEOUT_S)
        limits = httpx.Limits(max_connections=num, max_keepalive_connections=num)
        async with httpx.AsyncClient(timeout=timeout, limits=limits, headers=self._headers) as client:
            tasks = [asyncio.create_task(self._work(client, jobs)) for _ in range(num)]
            try:
                await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()

    async def _work(self, client: "httpx.AsyncClient", jobs: Iterator[Job]) -> None:
        # All workers draw from one iterator; there is one thread, and no pause within `next`.
        for job in jobs:
            try:
                answer = await self._answer(client, job)
            except TransientError as error:
                detail = f"{error} (after {self._config.max_attempts} attempts)"
                self._give_up(job, error.reason, detail, everywhere=True)
                continue
            except PermanentError as error:
                self._give_up(job, error.reason, str(error), everywhere=error.everywhere)
                continue
            self._num_given_up, self._refused = 0, None
            self._file(job, answer, await self._engine(client, answer))

    def _give_up(self, job: Job, reason: str, detail: str, *, everywhere: bool) -> None:
        self._desk.failed(job, Failure(reason=reason, detail=detail))
        self._num_given_up += everywhere
        if self._refused is not None:
            self._refused.add(job.query.id)
        # As many as there are workers, and no answer since: the rest would only take its time.
        if max(self._num_given_up, len(self._refused or ())) >= self._config.max_num_seqs:
            raise IncompleteError(
                f"{self._url}: no answer to {self._config.max_num_seqs} requests in a row; the last failed with: "
                f"{detail}. What was answered is on file; mend the server or the options and run the same command again"
            )

    async def _answer(self, client: "httpx.AsyncClient", job: Job) -> Answer:
        config = self._config
        for attempt in range(config.max_attempts):
            try:
                return await self._ask(client, job)
            except TransientError as error:
                if attempt + 1 == config.max_attempts:
                    raise
                self._say(f"{error.reason}: {error}")
                # Jitter keeps the workers from all coming back at the same moment.
                pause = min(config.max_retry_delay, config.retry_delay * 2**attempt) * random.uniform(0.5, 1.0)
                await asyncio.sleep(max(pause, error.wait_s))
        raise AssertionError("unreachable")

    def _say(self, trouble: str) -> None:
        """Report now and then that requests have to be repeated, since a long pause would look like a hang."""
        self._num_repeated += 1
        if time.monotonic() >= self._next_notice:
            self._next_notice = time.monotonic() + NOTICE_INTERVAL_S
            print(f"{self._num_repeated} requests repeated so far, this one after {trouble[:SHOWN_CHARS]}", flush=True)

    async def _ask(self, client: "httpx.AsyncClient", job: Job) -> Answer:
        try:
            # The time-out of the library is for each part of an answer; a server that trickles would never end.
            async with asyncio.timeout(self._config.request_timeout):
                response = await client.post(f"{self._url}/completions", json=self._body(job))
        except TimeoutError as error:
            raise TransientError("timeout", f"no answer within {self._config.request_timeout:g} s") from error
        except httpx.TimeoutException as error:
            raise TransientError("timeout", f"{type(error).__name__}: {error}") from error
        except (httpx.TransportError, httpx.DecodingError) as error:
            # Perhaps a restart, and with it another version.
            self._version = None
            raise TransientError("connection", f"{type(error).__name__}: {error}") from error
        if response.status_code != 200:
            raise _refusal(response)
        return parse_answer(response.content, self._config)

    def _body(self, job: Job) -> dict[str, Any]:
        request = job.request
        body: dict[str, Any] = {
            "model": self._config.model,
            "prompt": request.prompt_token_ids,
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
            "top_p": request.top_p,
            "n": 1,
        }
        if request.seed is not None:
            body["seed"] = request.seed
        if self._config.endpoint_dialect == "vllm":
            body |= {
                "top_k": request.top_k,
                "min_p": request.min_p,
                # Else the server takes what the model's generation_config.json has.
                "repetition_penalty": 1.0,
                "stop_token_ids": request.stop_token_ids,
                "return_token_ids": True,
                "skip_special_tokens": False,
            }
            if request.logprobs:
                body["logprobs"] = 0
        return body

    def _file(self, job: Job, answer: Answer, engine: dict[str, Any]) -> None:
        if answer.token_ids is None:
            self._desk.done_as_text(job, answer.text, answer.num_tokens, answer.finish_reason, engine)
            return
        completion = Completion(
            key=job.request.key,
            token_ids=answer.token_ids,
            finish_reason=answer.finish_reason,
            logprobs=answer.logprobs,
        )
        self._desk.done(job, completion, engine)

    async def _engine(self, client: "httpx.AsyncClient", answer: Answer) -> dict[str, Any]:
        """Return what is known of the server's engine."""
        if self._config.endpoint_dialect == "openai":
            return {"model": self._config.model, "system_fingerprint": answer.system_fingerprint}
        if self._version is None:
            try:
                reply = await client.get(f"{self._url.removesuffix('/v1')}/version", timeout=CONNECT_TIMEOUT_S)
                self._version = str(reply.json()["version"]) if reply.status_code == 200 else "unknown"
            except (httpx.HTTPError, ValueError, KeyError, TypeError):
                # The answer is there, and must not be lost for want of a version.
                return {"vllm": "unknown", "model": self._config.model}
        return {"vllm": self._version, "model": self._config.model}


def _refusal(response: "httpx.Response") -> TransientError | PermanentError:
    status = response.status_code
    detail = f"status {status}: {response.text[:SHOWN_CHARS]}"
    if status >= 500 or status in TRANSIENT_STATUS:
        try:
            wait_s = float(response.headers.get("Retry-After", 0))
        except ValueError:
            wait_s = 0.0
        return TransientError(f"status_{status}", detail, wait_s if 0 <= wait_s <= 3600 else 0.0)
    return PermanentError(f"status_{status}", detail, everywhere=status in STATUS_OF_SETTINGS)


def parse_answer(content: bytes, config: GenerateTracesConfig) -> Answer:
    """Read a server's response.

    Raises:
        TransientError: when it is not JSON or lacks what an answer has, as after a cut connection.
        PermanentError: when it is whole but has no token ids, which another attempt would not change.
    """
    try:
        value = json.loads(content)
        choice = value["choices"][0]
        text, finish_reason = choice["text"], choice["finish_reason"]
        num_tokens = value["usage"]["completion_tokens"]
    except (ValueError, RecursionError, KeyError, IndexError, TypeError) as error:
        shown = content[:SHOWN_CHARS]
        raise TransientError("malformed", f"the response is no completion ({error!r}): {shown!r}") from error
    if not isinstance(text, str) or not isinstance(num_tokens, int) or finish_reason not in ("stop", "length"):
        # vLLM says "abort" when it is shut down in the middle.
        detail = f"finish reason {finish_reason!r}, {num_tokens!r} tokens"
        raise TransientError("malformed", f"the response is no finished completion: {detail}")
    token_ids = logprobs = None
    if config.endpoint_dialect == "vllm":
        token_ids = choice.get("token_ids")
        if token_ids is None or not _all(token_ids, int) or len(token_ids) != num_tokens:
            detail = "the server does not tell token ids: use vLLM 0.10.2 or later, or --endpoint-dialect openai"
            raise PermanentError("no_token_ids", detail, everywhere=True)
        if config.logprobs:
            logprobs = (choice.get("logprobs") or {}).get("token_logprobs")
            if logprobs is None or not _all(logprobs, int | float) or len(logprobs) != num_tokens:
                raise PermanentError("no_logprobs", "the server does not tell log-probabilities", everywhere=True)
    fingerprint = value.get("system_fingerprint")
    return Answer(
        text=text,
        token_ids=token_ids,
        logprobs=logprobs,
        num_tokens=num_tokens,
        finish_reason=finish_reason,
        system_fingerprint=fingerprint if isinstance(fingerprint, str) else None,
    )


def _all(values: Any, kind: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, kind) for value in values)
