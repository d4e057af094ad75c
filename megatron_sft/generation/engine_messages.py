"""What a caller and an engine's process say to each other."""

import queue
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

EngineKind = Literal["vllm", "transformers"]


@dataclass(frozen=True, kw_only=True)
class EngineSettings:
    """How to start the engine of one checkpoint."""

    model: Path
    dtype: str
    max_model_len: int
    max_num_seqs: int
    tensor_parallel_size: int
    seed: int
    kv_bytes_per_token: int
    """Bytes of key-value cache per token in float32, to size the cache on CPU."""
    kv_cache_bytes: int | None
    gpu_memory_utilization: float | None
    num_threads: int | None
    """Threads on CPU; None: all cores."""
    log: Path
    """File for everything that the engine prints."""
    kind: EngineKind = "vllm"
    """vllm, or transformers: slower, on any machine."""
    visible_devices: str | None = None
    """Value of CUDA_VISIBLE_DEVICES in the engine's process; None leaves it as it is."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """One answer to generate."""

    key: str
    prompt_token_ids: list[int]
    temperature: float
    top_p: float
    max_tokens: int
    stop_token_ids: list[int]
    seed: int | None
    top_k: int = 0
    """Sample from this many of the likeliest tokens; 0: from all."""
    min_p: float = 0.0
    """Leave out tokens that are less likely than this share of the likeliest one's probability."""
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logprobs: bool = False
    """Whether the completion is to have `logprobs`."""


@dataclass(frozen=True, kw_only=True)
class Completion:
    """One answer generated; `token_ids` ends with the stop token if `finish_reason` is "stop"."""

    key: str
    token_ids: list[int]
    finish_reason: str
    logprobs: list[float] | None = None
    """Natural logarithm of each token's probability under the model, before temperature and cut-offs."""


@dataclass(frozen=True, kw_only=True)
class Reload:
    """Other weights for an engine."""

    model: Path
    probe: Request


@dataclass(frozen=True, kw_only=True)
class Reloaded:
    """What an engine with other weights said."""

    seconds: float
    """For the weights alone."""
    before: Completion
    """The probe's, with the weights before."""
    after: Completion


@dataclass
class EngineReport:
    """What an engine said of itself; filled while its completions are read."""

    versions: dict[str, str] = field(default_factory=dict)
    """`vllm`, `torch`, `device`, `dtype`."""
    start_s: float = 0.0
    """From the request for a process until the engine took prompts."""
    generate_s: float = 0.0
    num_tokens: int = 0


Inbox: TypeAlias = "queue.SimpleQueue[list[Request] | Reload | None]"
"""What an engine is asked, inside its process; None says that there will be no more."""
