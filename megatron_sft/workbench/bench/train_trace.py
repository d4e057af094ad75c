"""Reads a trace of torch's profiler: which kernels ran how long, and when the device had nothing to do.

The format is Chrome's: an object with `traceEvents`, of which complete ones (`ph` is X) have a category `cat`, a start
`ts` and a duration `dur` in microseconds.
"""

import gzip
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from megatron_sft.errors import DataError

_ON_DEVICE = ("kernel", "gpu_memcpy", "gpu_memset")
_KINDS = (
    ("communication", r"nccl|all_?reduce|reduce_?scatter|all_?gather"),
    ("attention", r"fmha|flash|attention|cudnn_generated.*sdpa|sdpa"),
    ("optimizer", r"adam|multi_tensor"),
    ("FP8 conversion", r"quantize|amax|cast_transpose|fp8.*cast|cast.*fp8|swizzle|cast_fp8|transpose_dbias"),
    ("matrix products", r"gemm|nvjet|cutlass|cublas|xmma|wgmma|matmul|addmm|aten::mm|aten::bmm"),
    ("norms and rotary", r"rmsnorm|layernorm|layer_norm|rms_norm|ln_(fwd|bwd)|rope|rotary|norm"),
    ("softmax and loss", r"softmax|cross_entropy|logsumexp|nll"),
    ("copies", r"memcpy|memset|copy|cat"),
    ("element by element", r"elementwise|vectorized|silu|swiglu|gelu|triton|reduce|add|mul|fill"),
)
OTHER = "other"


@dataclass(frozen=True, kw_only=True)
class Span:
    """Something that ran."""

    name: str
    start: float
    """Seconds."""
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Total:
    """All spans of a name, or of a kind."""

    name: str
    seconds: float
    count: int


@dataclass(frozen=True, kw_only=True)
class Trace:
    """What a profiler saw."""

    spans: list[Span]
    """On the device, by their start; operators on the host, which lie within each other, where no device was traced."""
    has_device: bool
    iteration_s: float
    """Of the last iteration that was marked, as the host saw it."""


def read_trace(path: Path) -> Trace:
    """Read a file of torch's profiler.

    Raises:
        DataError: for a file without complete events, or in which no iteration is marked.
    """
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
        events = [event for event in json.load(file).get("traceEvents", []) if event.get("ph") == "X"]
    marks = [event for event in events if str(event["name"]).startswith("ProfilerStep#")]
    on_device = _spans(events, _ON_DEVICE)
    spans = on_device or _spans(events, ("cpu_op",))
    if not spans or not marks:
        missing = "kernel or operator" if marks else "marked iteration"
        raise DataError(f"{path}: no {missing} in this trace; record it again")
    last = max(marks, key=lambda event: float(event["ts"]))
    return Trace(spans=spans, has_device=bool(on_device), iteration_s=last["dur"] / 1e6)


def _spans(events: Iterable[dict[str, Any]], categories: tuple[str, ...]) -> list[Span]:
    found = [
        Span(name=event["name"], start=event["ts"] / 1e6, seconds=event["dur"] / 1e6)
        for event in events
        if event.get("cat") in categories
    ]
    return sorted(found, key=lambda span: span.start)


def totals_by_name(spans: Iterable[Span]) -> list[Total]:
    """The longest first."""
    return _totals((span.name, span.seconds) for span in spans)


def totals_by_kind(spans: Iterable[Span]) -> list[Total]:
    """The longest first; what no pattern knows is `OTHER`."""
    return _totals((kind_of(span.name), span.seconds) for span in spans)


def kind_of(name: str) -> str:
    """What a kernel does, guessed from its name."""
    return next((kind for kind, pattern in _KINDS if re.search(pattern, name, re.IGNORECASE)), OTHER)


def busy_seconds(spans: Sequence[Span]) -> float:
    """Time in which at least one of them ran; `spans` by their start."""
    busy, end = 0.0, float("-inf")
    for span in spans:
        stop = span.start + span.seconds
        busy += max(0.0, stop - max(span.start, end))
        end = max(end, stop)
    return busy


def longest_gaps(spans: Sequence[Span], count: int) -> list[tuple[float, str, str]]:
    """The longest times in which nothing ran: seconds, what ran before and what after; `spans` by their start."""
    gaps, before = [], spans[0]
    for span in spans[1:]:
        gap = span.start - (before.start + before.seconds)
        if gap > 0:
            gaps.append((gap, before.name, span.name))
        if span.start + span.seconds > before.start + before.seconds:
            before = span
    return sorted(gaps, reverse=True)[:count]


def _totals(parts: Iterable[tuple[str, float]]) -> list[Total]:
    seconds: dict[str, float] = defaultdict(float)
    counts: dict[str, int] = defaultdict(int)
    for name, value in parts:
        seconds[name] += value
        counts[name] += 1
    totals = [Total(name=name, seconds=value, count=counts[name]) for name, value in seconds.items()]
    return sorted(totals, key=lambda total: -total.seconds)
