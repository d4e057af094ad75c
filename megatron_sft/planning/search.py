"""Every layout of a number of GPUs, reckoned and sorted: those that fit, those too large, those that cannot run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

from megatron_sft.model.flops import model_flops
from megatron_sft.model.geometry import ModelGeometry
from megatron_sft.planning.layouts import Layout, SplitRules, candidates, refusal
from megatron_sft.planning.load import RankLoad, rank_load
from megatron_sft.planning.memory import Memory, MemoryOptions, Recompute, peak_memory
from megatron_sft.planning.step_time import Cluster, StepTime, step_time


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What is trained, and how."""

    geometry: ModelGeometry
    """The model."""
    batches: Sequence[Sequence[int]]
    """Tokens of each sample, for one or several iterations."""
    options: MemoryOptions
    """Everything else that decides memory; its `recompute` is replaced by each of `recomputes`."""
    recomputes: Sequence[Recompute]
    """Ways of recomputation to try."""

    @property
    def flops(self) -> float:
        """Model FLOPs of an iteration, mean over the batches."""
        return sum(model_flops(self.geometry, lengths) for lengths in self.batches) / len(self.batches)

    @property
    def tokens(self) -> float:
        """Real tokens of an iteration, mean over the batches."""
        return sum(sum(lengths) for lengths in self.batches) / len(self.batches)


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What one layout costs."""

    layout: Layout
    recompute: Recompute
    num_rows: int
    """Rows per data-parallel rank and iteration; the most that any batch takes."""
    memory: Memory
    """Of the fullest GPU, in the batch with the most rows."""
    times: tuple[StepTime, ...]
    """Of each batch."""
    mfu: float
    """Model FLOPs / (step time x GPUs x bf16 peak)."""

    @property
    def seconds(self) -> float:
        """Step time, mean over the batches."""
        return sum(time.total for time in self.times) / len(self.times)

    def mean(self, cause: str) -> float:
        """Mean over the batches of one of `StepTime`'s parts, seconds."""
        return float(sum(getattr(time, cause) for time in self.times) / len(self.times))


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All layouts."""

    fitting: list[Estimate]
    """Fastest first."""
    too_large: list[Estimate]
    """Layouts that could run with more memory, fastest first."""
    refused: dict[str, list[Layout]]
    """Layouts that cannot run, by reason."""


def search(
    workload: Workload, cluster: Cluster, rules: SplitRules, memory_bytes: float, fixed: Mapping[str, int]
) -> Plan:
    """Reckon every layout of the cluster's GPUs.

    Args:
        workload: model, samples and choices.
        cluster: the machines.
        rules: what layouts must respect.
        memory_bytes: of one GPU.
        fixed: sizes that are given, by their names in `Layout`; only layouts with these are looked at.
    """
    geometry = workload.geometry

    @cache
    def loads(dp: int, rows_multiple: int, length_multiple: int, equal_lengths: bool) -> tuple[RankLoad, ...]:
        row = {"seq_length": rules.seq_length, "dp": dp, "hidden_size": geometry.hidden_size}
        multiples = {"rows_multiple": rows_multiple, "length_multiple": length_multiple}
        return tuple(
            rank_load(lengths, equal_lengths=equal_lengths, **multiples, **row) for lengths in workload.batches
        )

    refused: dict[str, list[Layout]] = {}
    estimates = []
    for layout in candidates(geometry, cluster.num_gpus):
        if any(getattr(layout, name) != size for name, size in fixed.items()):
            continue
        reason = refusal(layout, geometry, rules)
        if reason is not None:
            refused.setdefault(reason, []).append(layout)
            continue
        parallel = layout.parallel(rules.sequence_parallel)
        needs = (parallel.rows_per_rank_multiple, parallel.row_multiple_on_gpus, parallel.needs_equal_rows)
        rank_loads = loads(layout.dp, *needs)
        estimates += [_estimate(workload, cluster, layout, rank_loads, how) for how in workload.recomputes]
    # Of equally fast ones, the one with fewer parts comes first.
    estimates.sort(key=lambda e: (e.seconds, e.memory.total, e.layout))
    return Plan(
        fitting=[estimate for estimate in estimates if estimate.memory.total <= memory_bytes],
        too_large=[estimate for estimate in estimates if estimate.memory.total > memory_bytes],
        refused=refused,
    )


def _estimate(
    workload: Workload, cluster: Cluster, layout: Layout, loads: Sequence[RankLoad], recompute: Recompute
) -> Estimate:
    options = replace(workload.options, recompute=recompute)
    times = tuple(step_time(workload.geometry, layout, options, cluster, load) for load in loads)
    num_rows = max(len(load.rows) for load in loads)
    seconds = sum(time.total for time in times) / len(times)
    return Estimate(
        layout=layout,
        recompute=recompute,
        num_rows=num_rows,
        memory=peak_memory(workload.geometry, layout, options, num_rows),
        times=times,
        mfu=workload.flops / (seconds * cluster.num_gpus * cluster.peak_flops),
    )
