"""The plan as text and as JSON."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from megatron_sft.planning.layouts import Layout
from megatron_sft.planning.memory import GIB, Memory
from megatron_sft.planning.search import Estimate, Plan

_SECONDS_PER_HOUR = 3600
_TIGHT = 0.95
_HEADER = (
    "tp  pp  ch  cp   dp  recompute  rows |   step s  bubble   comm  MFU %  tok/s/GPU   hours | "
    "weights  grads  optim  activ   peak  other  = GiB"
)


def lines_of(
    estimates: Sequence[Estimate], *, tokens: float, num_gpus: int, num_iterations: int, memory_bytes: float
) -> Iterator[str]:
    """A header and a line for each estimate.

    `ch` are the chunks of layers of a stage, `rows` those of a data-parallel rank; `peak` is the larger of logits and
    working set, `other` the allowance.

    Args:
        estimates: what to show.
        tokens: real tokens of an iteration.
        num_gpus: GPUs that it is divided by.
        num_iterations: of the whole run, for the column of hours.
        memory_bytes: of one GPU; layouts that leave less than 5 % of it are marked.
    """
    yield _HEADER
    for each in estimates:
        layout, memory, seconds = each.layout, each.memory, each.seconds
        communication = sum(each.mean(cause) for cause in ("tensor", "context", "pipeline", "data"))
        weights, gradients, optimizer, activations, other, total = (
            _gib(memory, part) for part in ("weights", "gradients", "optimizer", "activations", "allowance", "total")
        )
        mark = " *" if _is_tight(each, memory_bytes) else ""
        yield (
            f"{layout.tp:2d}  {layout.pp:2d}  {layout.vpp:2d}  {layout.cp:2d}  {layout.dp:3d}  {each.recompute:9s}  "
            f"{each.num_rows:4d} | {seconds:8.2f}  {each.mean('bubble'):6.2f}  {communication:5.2f}  "
            f"{100 * each.mfu:5.1f}  {tokens / seconds / num_gpus:9.0f}  "
            f"{seconds * num_iterations / _SECONDS_PER_HOUR:6.1f} | "
            f"{weights:7.1f}  {gradients:5.1f}  {optimizer:5.1f}  {activations:5.1f}  "
            f"{_gib(memory, _highest(memory)):5.1f}  {other:5.1f}  {total:5.1f}{mark}"
        )
    if any(_is_tight(each, memory_bytes) for each in estimates):
        yield f"* takes more than {_TIGHT:.0%} of the memory: try it before a long run"


def _is_tight(estimate: Estimate, memory_bytes: float) -> bool:
    return estimate.memory.total > _TIGHT * memory_bytes


def best_of_each(estimates: Sequence[Estimate]) -> list[Estimate]:
    """The first estimate of each tp, pp and cp: number of chunks and recomputation are details of a layout."""
    first: dict[tuple[int, int, int], Estimate] = {}
    for estimate in estimates:
        first.setdefault((estimate.layout.tp, estimate.layout.pp, estimate.layout.cp), estimate)
    return list(first.values())


def shortfall(estimate: Estimate, memory_bytes: float) -> str:
    """By how much a layout exceeds the memory, and what takes most of it."""
    memory = estimate.memory
    parts = ("weights", "gradients", "optimizer", "activations", _highest(memory))
    largest = max(parts, key=lambda part: _gib(memory, part))
    where = f" on stage {memory.stage}" if estimate.layout.pp > 1 else ""
    return (
        f"{estimate.layout}, recompute {estimate.recompute}: {memory.total / GIB:.1f} GiB{where} is "
        f"{(memory.total - memory_bytes) / GIB:.1f} too much; {_gib(memory, largest):.1f} of it {largest}; "
        f"a step would take {estimate.seconds:.2f} s"
    )


def refusals(refused: dict[str, list[Layout]]) -> Iterator[str]:
    """A line for each reason, with the number of layouts."""
    for reason, layouts in sorted(refused.items(), key=lambda item: -len(item[1])):
        yield f"{reason} ({len(layouts)} layout{'s' if len(layouts) > 1 else ''})"


def as_json(plan: Plan) -> dict[str, Any]:
    """All layouts, JSON-ready; memory in bytes, times in seconds."""
    return {
        "fitting": [_record(estimate) for estimate in plan.fitting],
        "too_large": [_record(estimate) for estimate in plan.too_large],
        "refused": {reason: [asdict(layout) for layout in layouts] for reason, layouts in plan.refused.items()},
    }


def _record(estimate: Estimate) -> dict[str, Any]:
    causes = ("compute", "bubble", "tensor", "context", "pipeline", "data")
    return {
        "layout": asdict(estimate.layout),
        "recompute": estimate.recompute,
        "num_rows": estimate.num_rows,
        "memory_bytes": asdict(estimate.memory) | {"total": estimate.memory.total},
        "seconds": {cause: estimate.mean(cause) for cause in causes} | {"total": estimate.seconds},
        "mfu": estimate.mfu,
    }


def _highest(memory: Memory) -> str:
    """What takes more of the passing memory: only one of both is there at a time."""
    return "logits" if memory.logits > memory.working else "working"


def _gib(memory: Memory, part: str) -> float:
    return float(getattr(memory, part)) / GIB
