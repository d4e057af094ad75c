"""What goes to a server with OpenAI's API, and what comes back: bodies, answers, refusals.

Nothing connects here, so httpx is not needed.
"""

import json
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from megatron_sft.generation.engine_messages import EngineReport, Request

Dialect: TypeAlias = Literal["vllm", "openai"]

SHOWN_CHARS = 300
TRANSIENT_STATUS = frozenset((408, 409, 425, 429))
"""Refusals that pass; so do all from 500 on."""
STATUS_OF_SETTINGS = frozenset((401, 403, 404))
"""Refusals that every request would meet."""
MAX_WAIT_S = 3600.0
"""A `Retry-After` beyond this is not kept to."""


@dataclass(frozen=True, kw_only=True)
class EndpointSettings:
    """A server, and how patient to be with it."""

    url: str
    """Up to and with /v1."""
    model: str
    """The name that the server has for it."""
    dialect: Dialect = "vllm"
    """What the server understands: `openai` has only the fields of OpenAI's own API, and tells no token ids."""
    api_key_variable: str | None = None
    """Environment variable with the key that the server asks for."""
    max_num_requests: int = 256
    """Most requests under way; as many failures in a row end the run."""
    request_timeout: float = 3600.0
    """Seconds that an answer may take."""
    max_attempts: int = 20
    """For one answer, before it is reported as failed."""
    retry_delay: float = 1.0
    """Seconds before the second attempt, on average three quarters of it; doubled for each further one."""
    max_retry_delay: float = 60.0
    """Most seconds between two attempts."""


@dataclass(frozen=True, kw_only=True)
class ChatRequest:
    """One answer to turns that the server renders with its own template."""

    key: str
    messages: list[dict[str, str]]
    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None


@dataclass(frozen=True, kw_only=True)
class ScoreRequest:
    """One number for a conversation, from a reward model behind vLLM's `/classify`."""

    key: str
    messages: list[dict[str, str]]
    """Up to and with the turn that is scored."""


AnyRequest: TypeAlias = Request | ChatRequest | ScoreRequest


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the server gave; `token_ids` and `logprobs` are None where it does not tell them."""

    text: str
    """Of a score, the shortest text that is read as the same number."""
    token_ids: list[int] | None
    logprobs: list[float] | None
    num_tokens: int
    finish_reason: str
    """stop or length."""
    system_fingerprint: str | None


@dataclass(frozen=True, kw_only=True)
class TextCompletion:
    """One answer of a server that tells text and no tokens."""

    key: str
    text: str
    num_tokens: int
    """As the server counts them, those of a hidden trace included; of a score, the prompt's."""
    finish_reason: str
    """stop or length."""


@dataclass(frozen=True, kw_only=True)
class RequestFailure:
    """A request that has no answer."""

    key: str
    reason: str
    detail: str


@dataclass
class EndpointReport(EngineReport):
    """`EngineReport` of a server: `versions` are those of the batch last yielded."""

    failures: list[RequestFailure] = field(default_factory=list)


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


def address_of(request: AnyRequest, url: str) -> str:
    """Return where to send a request; `url` ends with /v1, below which vLLM's own interfaces are not."""
    if isinstance(request, ScoreRequest):
        return f"{root_of(url)}/classify"
    return f"{url}/chat/completions" if isinstance(request, ChatRequest) else f"{url}/completions"


def root_of(url: str) -> str:
    """Return the server's address without /v1."""
    return url.removesuffix("/v1")


def body_of(request: AnyRequest, settings: EndpointSettings) -> dict[str, Any]:
    """Return the request in the server's dialect."""
    if isinstance(request, ScoreRequest):
        # Without the activation, which would press rewards into 0 to 1.
        return {"model": settings.model, "messages": request.messages, "use_activation": False}
    body: dict[str, Any] = {
        "model": settings.model,
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "n": 1,
    }
    if request.seed is not None:
        body["seed"] = request.seed
    if settings.dialect == "vllm":
        # Else the server takes what the model's generation_config.json has.
        body |= {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
    if isinstance(request, ChatRequest):
        return body | {"messages": request.messages}
    body["prompt"] = request.prompt_token_ids
    for name in ("presence_penalty", "frequency_penalty"):
        if getattr(request, name):
            body[name] = getattr(request, name)
    if settings.dialect == "vllm":
        body |= {
            "top_k": request.top_k,
            "min_p": request.min_p,
            "stop_token_ids": request.stop_token_ids,
            "return_token_ids": True,
            "skip_special_tokens": False,
        }
        if request.logprobs:
            body["logprobs"] = 0
    return body


def refusal(status: int, text: str, retry_after: str | None) -> TransientError | PermanentError:
    """Return what a status other than 200 means."""
    detail = f"status {status}: {text[:SHOWN_CHARS]}"
    if status >= 500 or status in TRANSIENT_STATUS:
        try:
            wait_s = float(retry_after or 0)
        except ValueError:
            wait_s = 0.0
        return TransientError(f"status_{status}", detail, wait_s if 0 <= wait_s <= MAX_WAIT_S else 0.0)
    return PermanentError(f"status_{status}", detail, everywhere=status in STATUS_OF_SETTINGS)


def parse_answer(content: bytes, request: AnyRequest, dialect: Dialect) -> Answer:
    """Read a server's response.

    Raises:
        TransientError: when it is not JSON or lacks what an answer has, as after a cut connection.
        PermanentError: when it is whole but has no token ids, or the server's filter withheld it, which another
            attempt would not change.
    """
    if isinstance(request, ScoreRequest):
        return _parse_score(content)
    try:
        value = json.loads(content)
        choice = value["choices"][0]
        text = choice["message"]["content"] if isinstance(request, ChatRequest) else choice["text"]
        finish_reason = choice["finish_reason"]
        num_tokens = value["usage"]["completion_tokens"]
    except (ValueError, RecursionError, KeyError, IndexError, TypeError) as error:
        shown = content[:SHOWN_CHARS]
        raise TransientError("malformed", f"the response is no completion ({error!r}): {shown!r}") from error
    if finish_reason == "content_filter":
        raise PermanentError("content_filter", "the server's filter withheld the answer")
    if text is None and isinstance(request, ChatRequest):
        # A reasoning parser puts the trace elsewhere; an answer that is cut off within it has no content.
        text = ""
    if not isinstance(text, str) or not isinstance(num_tokens, int) or finish_reason not in ("stop", "length"):
        # vLLM says "abort" when it is shut down in the middle.
        detail = f"finish reason {finish_reason!r}, {num_tokens!r} tokens"
        raise TransientError("malformed", f"the response is no finished completion: {detail}")
    token_ids = logprobs = None
    if dialect == "vllm" and isinstance(request, Request):
        token_ids, logprobs = _tokens(choice, num_tokens, with_logprobs=request.logprobs)
    fingerprint = value.get("system_fingerprint")
    return Answer(
        # JSON can spell half a character, which no file of ours could hold.
        text=text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"),
        token_ids=token_ids,
        logprobs=logprobs,
        num_tokens=num_tokens,
        finish_reason=finish_reason,
        system_fingerprint=fingerprint if isinstance(fingerprint, str) else None,
    )


def _parse_score(content: bytes) -> Answer:
    try:
        value = json.loads(content)
        scores = value["data"][0]["probs"]
        num_tokens = value["usage"]["prompt_tokens"]
    except (ValueError, RecursionError, KeyError, IndexError, TypeError) as error:
        raise TransientError("malformed", f"the response is no score ({error!r}): {content[:SHOWN_CHARS]!r}") from error
    if not _all(scores, int | float) or len(scores) != 1:
        raise PermanentError("no_reward_model", f"expected one number, found {scores!r}", everywhere=True)
    return Answer(
        text=repr(float(scores[0])),
        token_ids=None,
        logprobs=None,
        num_tokens=num_tokens,
        finish_reason="stop",
        system_fingerprint=None,
    )


def _tokens(choice: dict[str, Any], num_tokens: int, *, with_logprobs: bool) -> tuple[list[int], list[float] | None]:
    token_ids = choice.get("token_ids")
    if token_ids is None or not _all(token_ids, int) or len(token_ids) != num_tokens:
        detail = "the server does not tell token ids: use vLLM 0.10.2 or later, or --endpoint-dialect openai"
        raise PermanentError("no_token_ids", detail, everywhere=True)
    if not with_logprobs:
        return token_ids, None
    logprobs = (choice.get("logprobs") or {}).get("token_logprobs")
    if logprobs is None or not _all(logprobs, int | float) or len(logprobs) != num_tokens:
        raise PermanentError("no_logprobs", "the server does not tell log-probabilities", everywhere=True)
    return token_ids, logprobs


def _all(values: Any, kind: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, kind) for value in values)
