"""Tables of `bench train`, and whether its peers computed the same."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from megatron_sft.model.flops import model_flops
from megatron_sft.model.geometry import ModelGeometry
from megatron_sft.model.parameter_counts import num_parameters
from megatron_sft.planning.layouts import Layout
from megatron_sft.planning.memory import CONTEXT_BYTES, GIB, MemoryOptions, peak_memory
from megatron_sft.planning.precisions import Precision
from megatron_sft.train.options import TrainOptions
from megatron_sft.train.peaks import peak_tflops
from megatron_sft.workbench.bench.train_job import OUT_OF_MEMORY, Answer, Peer, Step

OURS: Peer = "megatron-sft"
NORM_FACTOR = 5
"""A gradient norm may lie so many times further apart than a loss: rounding does not average out in it."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A peer with what it found."""

    peer: Peer
    answer: Answer
    warmup: int
    """Iterations at the start that do not count."""
    planned_bytes: int | None = None
    """What `tools/plan` reckons that torch allocates; None where it does not know."""

    @property
    def steps(self) -> list[Step]:
        """The iterations that count."""
        return self.answer.steps[self.warmup :]

    @property
    def seconds(self) -> float:
        """Of all iterations that count."""
        return sum(step.seconds for step in self.steps)

    @property
    def tokens_per_s(self) -> float:
        """Real tokens."""
        return sum(step.tokens for step in self.steps) / self.seconds


def report(
    measured: Sequence[Measured],
    geometry: ModelGeometry,
    lengths: Sequence[Sequence[int]],
    *,
    peak: float | None,
    title: Sequence[str],
) -> list[str]:
    """The lines of the report, in Markdown.

    Args:
        measured: in the order of the tables.
        geometry: of the model.
        lengths: tokens of the samples of each iteration.
        peak: dense bf16 TFLOP/s of the device; None for that of the device's name.
        title: lines to begin with.
    """
    versions = {name: value for one in measured for name, value in one.answer.versions.items()}
    peak = peak or peak_tflops(versions.get("device", ""))
    flat = [length for batch in lengths for length in batch]
    return [
        *title,
        ", ".join(f"{name} {value}" for name, value in versions.items()),
        f"{num_parameters(geometry) / 1e9:.3f} billion parameters; {len(lengths[0])} samples an iteration, mean "
        f"{statistics.mean(flat):.0f} tokens, longest {max(flat)}; {_peak(peak)}",
        "",
        *_speeds(measured, geometry, lengths, peak),
        "",
        *_breakdown(measured),
        "",
        *(f"- {one.peer}: {one.answer.how}" for one in measured if one.answer.how),
        *(f"- {one.peer}: {_planned(one)}" for one in measured if one.planned_bytes),
        *(f"- {one.peer}: {one.answer.problem}" for one in measured if one.answer.problem),
    ]


def disagreements(measured: Sequence[Measured], tolerance: float) -> list[str]:
    """A line for each peer whose first iteration is not that of the first peer which has one, or that did not finish.

    Running out of memory is a result, and none of them.
    """
    lines = [
        f"{one.peer}: {one.answer.problem}"
        for one in measured
        if one.answer.problem is not None and one.answer.problem != OUT_OF_MEMORY
    ]
    started = [one for one in measured if one.answer.steps]
    reference = next((one for one in started if one.peer == OURS), started[0] if started else None)
    for one in started:
        assert reference is not None
        for name, limit in (("loss", tolerance), ("grad_norm", NORM_FACTOR * tolerance)):
            found, expected = (getattr(x.answer.steps[0], name) for x in (one, reference))
            if not abs(found / expected - 1) <= limit:
                lines.append(
                    f"{one.peer}: {name} of the first iteration is {found:.6g}, that of {reference.peer} "
                    f"{expected:.6g}: more than {limit:g} apart, so they do not compute the same"
                )
    return lines


def planned_bytes(geometry: ModelGeometry, options: TrainOptions, num_rows: int) -> int | None:
    """What `tools/plan` reckons for one GPU, without what lies outside torch's allocator."""
    precision = planned_precision(options)
    if precision is None:
        return None
    memory = peak_memory(
        geometry,
        Layout(),
        MemoryOptions(
            precision=precision,
            recompute=options.recompute_granularity,
            seq_length=options.seq_length,
            chunked_loss=True,
            sequence_parallel=False,
        ),
        num_rows,
    )
    return memory.total - CONTEXT_BYTES


def planned_precision(options: TrainOptions) -> Precision | None:
    """The name that `planning` has for a run's precision; None where it has none."""
    if options.optimizer_cpu_offload or options.fp8_param_gather:
        return None
    if options.use_precision_aware_optimizer:
        dtypes = {options.main_grads_dtype, options.exp_avg_dtype, options.exp_avg_sq_dtype}
        return "precision-aware" if dtypes == {"bf16"} and options.fp8_format == "none" else None
    if options.fp8_format != "none":
        return "fp8"
    if options.pure_bf16:
        return "pure-bf16"
    return "bf16" if options.bf16 else "fp32"


def _speeds(
    measured: Sequence[Measured], geometry: ModelGeometry, lengths: Sequence[Sequence[int]], peak: float | None
) -> list[str]:
    ours = next((one for one in measured if one.peer == OURS and one.steps), None)
    lines = [
        "| | real tokens/s | samples/s | megatron-sft over it | MFU | computed / real | peak GiB | s an iteration "
        "| first loss | first gradient norm | last loss |",
        "|---|" + "---:|" * 10,
    ]
    for one in measured:
        if not one.steps:
            cells = [one.answer.problem or "no measured iteration", *[""] * 4, _gib(one), *[""] * 4]
            lines.append(f"| {one.peer} | {' | '.join(cells)} |")
            continue
        counted = lengths[one.warmup : one.warmup + len(one.steps)]
        flops = sum(model_flops(geometry, batch) for batch in counted)
        mfu = f"{flops / one.seconds / peak / 1e12:.1%}" if peak else "-"
        first, last = one.answer.steps[0], one.answer.steps[-1]
        computed = sum(step.places for step in one.steps) / sum(step.tokens for step in one.steps)
        cells = [
            f"{one.tokens_per_s:,.0f}",
            f"{sum(map(len, counted)) / one.seconds:.2f}",
            f"{ours.tokens_per_s / one.tokens_per_s:.2f}" if ours else "-",
            mfu,
            f"{computed:.2f}",
            _gib(one),
            f"{one.seconds / len(one.steps):.3f}",
            f"{first.loss:.5f}",
            f"{first.grad_norm:.5f}",
            f"{last.loss:.5f}",
        ]
        lines.append(f"| {one.peer} | {' | '.join(cells)} |")
    return lines


def _breakdown(measured: Sequence[Measured]) -> list[str]:
    """Shares of the measured time."""
    lines = [
        "| | rows an iteration | data | forward and backward | update | rest |",
        "|---|" + "---:|" * 5,
    ]
    for one in measured:
        if one.steps:
            parts = [
                sum(getattr(step, name) or 0.0 for step in one.steps) / one.seconds
                for name in ("data_s", "forward_backward_s", "update_s")
            ]
            rows = sum(step.num_rows for step in one.steps) / len(one.steps)
            shares = " | ".join(f"{part:.1%}" for part in [*parts, 1 - sum(parts)])
            lines.append(f"| {one.peer} | {rows:.1f} | {shares} |")
    return lines


def _gib(one: Measured) -> str:
    return f"{one.answer.peak_bytes / GIB:.2f}" if one.answer.peak_bytes else "-"


def _planned(one: Measured) -> str:
    assert one.planned_bytes is not None
    peak = one.answer.peak_bytes
    return (
        f"tools/plan reckons {one.planned_bytes / GIB:.2f} GiB without what lies outside torch; allocated were "
        f"{peak / GIB:.2f} GiB, {peak / one.planned_bytes - 1:+.1%}"
    )


def _peak(peak: float | None) -> str:
    return f"bf16 peak {peak:g} TFLOP/s" if peak else "no known peak, hence no MFU"
