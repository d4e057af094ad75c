"""Who answers a rubric's questions: a server with OpenAI's API, a model folder in an engine, a served reward model.

A judge starts nothing until it is asked, so that filed judgements can be read without a server and without an engine.
"""

import re
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from megatron_sft.data.chat import ChatTokenizer
from megatron_sft.errors import ConfigError
from megatron_sft.generation.endpoint_protocol import (
    AnyRequest,
    ChatRequest,
    Dialect,
    EndpointReport,
    EndpointSettings,
    RequestFailure,
    ScoreRequest,
    TextCompletion,
)
from megatron_sft.generation.engine import make_context, run_engine
from megatron_sft.generation.engine_messages import Completion, EngineSettings, Request
from megatron_sft.generation.model_folder import ModelFolder, open_model

MAX_TOKENS = 4096
ENDPOINT = re.compile(r"(?P<reward>reward:)?(?P<name>.+)@(?P<url>https?://.+)")


@dataclass(frozen=True, kw_only=True)
class JudgeOptions:
    """How to ask a judge; what concerns engines has no effect on servers, and the other way round."""

    max_tokens: int = MAX_TOKENS
    """Most tokens of an answer; one that is cut off has no value."""
    max_num_seqs: int = 64
    """Most questions under way."""
    dialect: Dialect = "vllm"
    api_key_variable: str | None = None
    request_timeout: float = 600.0
    max_attempts: int = 20
    retry_delay: float = 1.0
    max_retry_delay: float = 60.0
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    max_model_len: int | None = None
    """Context of a model folder in tokens. Default: its max_position_embeddings."""
    tensor_parallel_size: int = 1
    kv_cache_gib: float | None = None
    gpu_memory_utilization: float | None = None
    logs: Path = field(default_factory=lambda: Path("logs"))
    """Folder for the log of the engine."""


class Judge(Protocol):
    """Answers questions, greedily."""

    name: str
    """As a folder's name."""
    gives_rewards: bool
    """Answers with a number that it was trained to give, and to no question in words."""
    identity: dict[str, Any]
    """What makes another judge; part of the key of each judgement."""
    sampling: dict[str, Any]
    """How answers are drawn; part of the key, too."""

    def ask(
        self, questions: Sequence[ChatRequest], report: EndpointReport
    ) -> Generator[list[TextCompletion], None, None]:
        """Yield the answers as they come; questions that fail are in `report.failures`.

        Raises:
            IncompleteError: when a server answers nothing.
            EnvironmentProblem: when an engine fails.
        """


def open_judge(given: str, options: JudgeOptions) -> Judge:
    """Return the judge that `given` names: `NAME@URL` of a server, `reward:NAME@URL`, or a model folder.

    Raises:
        ConfigError: when it is neither.
        DataError: for a folder without what a model needs.
    """
    if match := ENDPOINT.fullmatch(given):
        settings = endpoint_settings(match["name"], match["url"], options)
        return RewardJudge(settings) if match["reward"] else EndpointJudge(settings, options.max_tokens)
    if not Path(given).is_dir():
        raise ConfigError(
            f"judge {given!r}: expected NAME@URL, as judge@http://localhost:8000/v1, reward:NAME@URL or a model folder"
        )
    path = Path(given).resolve()
    return LocalJudge(open_model(path, folder_name(path.name)), options)


def endpoint_settings(model: str, url: str, options: JudgeOptions) -> EndpointSettings:
    """Return the settings of the client."""
    return EndpointSettings(
        url=url,
        model=model,
        dialect=options.dialect,
        api_key_variable=options.api_key_variable,
        max_num_requests=options.max_num_seqs,
        request_timeout=options.request_timeout,
        max_attempts=options.max_attempts,
        retry_delay=options.retry_delay,
        max_retry_delay=options.max_retry_delay,
    )


def folder_name(name: str) -> str:
    """Return a model's name as a folder's: what is no letter, digit, `.`, `_` or `-` becomes `_`, leading dots too."""
    return re.sub(r"[^A-Za-z0-9._-]|^\.+", "_", name)


def _ask_server(
    settings: EndpointSettings, requests: Sequence[AnyRequest], report: EndpointReport
) -> Generator[list[TextCompletion], None, None]:
    # Imports a package that engines, and judgements on file, do without.
    from megatron_sft.generation.endpoint import run_endpoint

    for completions in run_endpoint(settings, requests, report):
        yield [completion for completion in completions if isinstance(completion, TextCompletion)]


class EndpointJudge:
    """A server, known by the model's name there: at whatever address, it is taken to be the same judge."""

    def __init__(self, settings: EndpointSettings, max_tokens: int) -> None:
        self._settings = settings
        self.name = folder_name(settings.model)
        self.gives_rewards = False
        self.identity = {"endpoint": settings.model}
        self.sampling = {"temperature": 0.0, "max_tokens": max_tokens}

    def ask(
        self, questions: Sequence[ChatRequest], report: EndpointReport
    ) -> Generator[list[TextCompletion], None, None]:
        """See `Judge`."""
        return _ask_server(self._settings, questions, report)


class RewardJudge:
    """A reward model behind vLLM's `/classify`: one number for a conversation, which the server renders."""

    def __init__(self, settings: EndpointSettings) -> None:
        if settings.dialect != "vllm":
            raise ConfigError(f"judge reward:{settings.model}: rewards are asked of vLLM's /classify, no other dialect")
        self._settings = settings
        self.name = folder_name(settings.model)
        self.gives_rewards = True
        self.identity = {"reward_endpoint": settings.model}
        self.sampling: dict[str, Any] = {}

    def ask(
        self, questions: Sequence[ChatRequest], report: EndpointReport
    ) -> Generator[list[TextCompletion], None, None]:
        """See `Judge`."""
        requests = [ScoreRequest(key=question.key, messages=question.messages) for question in questions]
        return _ask_server(self._settings, requests, report)


class LocalJudge:
    """A model folder, rendered by its own template, in a vLLM engine that ends with the questions."""

    def __init__(self, model: ModelFolder, options: JudgeOptions) -> None:
        self._tokenizer: ChatTokenizer = model.tokenizer
        self._context_len = min(options.max_model_len or model.max_position_embeddings, model.max_position_embeddings)
        self._engine = EngineSettings(
            model=model.path,
            dtype=options.dtype,
            max_model_len=self._context_len,
            max_num_seqs=options.max_num_seqs,
            tensor_parallel_size=options.tensor_parallel_size,
            seed=0,
            kv_bytes_per_token=model.kv_bytes_per_token,
            kv_cache_bytes=None if options.kv_cache_gib is None else int(options.kv_cache_gib * 2**30),
            gpu_memory_utilization=options.gpu_memory_utilization,
            num_threads=None,
            log=(options.logs / f"judge-{model.name}.log").resolve(),
        )
        self.name = model.name
        self.gives_rewards = False
        self.identity = {"model_fingerprint": model.fingerprint}
        self.sampling = {"temperature": 0.0, "max_tokens": options.max_tokens, "dtype": options.dtype}

    def ask(
        self, questions: Sequence[ChatRequest], report: EndpointReport
    ) -> Generator[list[TextCompletion], None, None]:
        """See `Judge`; a question that does not fit the context with a whole answer fails: nothing is cut to fit."""
        requests = [self._request(question) for question in questions]
        fitting = [request for request in requests if self._num_tokens(request) <= self._context_len]
        report.failures += [
            RequestFailure(
                key=request.key,
                reason="prompt_too_long",
                detail=f"{len(request.prompt_token_ids)} tokens, with an answer of {request.max_tokens}, exceed the "
                f"context of {self._context_len}: let the judge answer shorter, or clip replies earlier",
            )
            for request in requests
            if self._num_tokens(request) > self._context_len
        ]
        if not fitting:
            return
        for completions in run_engine(make_context(), self._engine, fitting, report):
            yield [self._text(completion) for completion in completions]

    def _num_tokens(self, request: Request) -> int:
        return len(request.prompt_token_ids) + request.max_tokens

    def _request(self, question: ChatRequest) -> Request:
        return Request(
            key=question.key,
            prompt_token_ids=self._tokenizer.encode_prompt(question.messages),
            temperature=question.temperature,
            top_p=question.top_p,
            max_tokens=question.max_tokens,
            stop_token_ids=sorted(self._tokenizer.stop_ids),
            seed=question.seed,
        )

    def _text(self, completion: Completion) -> TextCompletion:
        stopped = completion.finish_reason == "stop"
        return TextCompletion(
            key=completion.key,
            text=self._tokenizer.decode(completion.token_ids[:-1] if stopped else completion.token_ids),
            num_tokens=len(completion.token_ids),
            finish_reason=completion.finish_reason,
        )
