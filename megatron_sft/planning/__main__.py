"""`tools/plan`: which parallel layouts of a model fit on a number of GPUs, and how fast they would be."""

import math
import re
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from megatron_sft import cli
from megatron_sft.errors import ConfigError
from megatron_sft.files import write_json
from megatron_sft.model.geometry import ModelGeometry
from megatron_sft.model.parameter_counts import num_parameters
from megatron_sft.planning.known_models import geometry_of
from megatron_sft.planning.layouts import SplitRules
from megatron_sft.planning.load import assumed_lengths, batches_of_shards
from megatron_sft.planning.memory import MemoryOptions, Recompute
from megatron_sft.planning.precisions import Precision
from megatron_sft.planning.search import Plan, Workload, search
from megatron_sft.planning.step_time import Cluster
from megatron_sft.planning.table import as_json, best_of_each, lines_of, refusals, shortfall

_UNITS = {"": 1024**3, "GiB": 1024**3, "MiB": 1024**2, "GB": 10**9, "MB": 10**6}
_MEAN_LENGTH, _LENGTH_SPREAD = 8600, 0.6
_SHOWN_REFUSALS = 8


@dataclass(frozen=True, kw_only=True)
class PlanConfig:
    """Reckon which parallel layouts of a model fit into memory, and how long a step takes in each.

    Estimates, not measurements: docs/parallelism.md says what they rest on. Ends with status 1 where nothing fits.
    """

    model: str
    """Hugging Face config.json, a folder that holds one, or a name such as qwen3-8b."""
    gpus: int
    """GPUs in all."""
    gpus_per_node: int = 8
    """GPUs that NVLink joins; with fewer GPUs than this, they are one node."""
    gpu_memory: str = "80GiB"
    """Memory of one GPU: a number with GiB, MiB, GB or MB; GiB without."""
    precision: Precision = "bf16"
    """fp32; bf16 with fp32 main weights, moments and gradients; fp8: the same with the layers' matrices in FP8;
    precision-aware: bf16 gradients and moments, fp32 main weights as 16 further bits; pure-bf16: the paper's AdamW
    without main weights."""
    recompute: Literal["auto", "none", "selective", "full"] = "auto"
    """What the backward pass computes again: nothing, each layer's feed-forward part, or each layer. auto tries all."""
    cross_entropy: Literal["chunked", "full"] = "chunked"
    """Whether the logits of a whole row exist at once."""
    without_sequence_parallel: bool = False
    """Norms and residuals whole on every tensor-parallel rank."""

    tensor_model_parallel_size: int | None = None
    """Only layouts with this tp."""
    pipeline_model_parallel_size: int | None = None
    """Only layouts with this pp."""
    num_virtual_stages_per_pipeline_rank: int | None = None
    """Only layouts with so many parts of the model on each pipeline rank; 1 is the plain pipeline."""
    context_parallel_size: int | None = None
    """Only layouts with this cp."""

    global_batch_size: int = 256
    """Samples per iteration."""
    seq_length: int = 20480
    """Capacity of a packed row, tokens."""
    data: Path | None = None
    """Shard folder: take real lengths, of 4 iterations spread over an epoch."""
    mean_length: int | None = None
    """Tokens per sample where there is no --data. Default: 8600."""
    length_spread: float | None = None
    """Standard deviation of the logarithm of these lengths, cut at --seq-length. Default: 0.6."""
    train_iters: int = 640
    """Iterations of the run, for the hours it takes."""

    peak_tflops: float = 989.0
    """Dense bf16 TFLOP/s of one GPU as its maker states them; 989 is an H100 SXM's."""
    efficiency: float = 0.4
    """Share of the peak that a GPU reaches while it computes, recomputation included."""
    intra_node_bandwidth: float = 350.0
    """GB/s that a GPU sends inside its node, as collectives reach it."""
    inter_node_bandwidth: float = 40.0
    """GB/s that a GPU sends to other nodes."""

    top: int = 5
    """Layouts to show."""
    json: Path | None = None
    """Write everything that was reckoned to this file too."""

    def __post_init__(self) -> None:
        """Check each value and what has no effect."""
        sizes = ("tensor_model_parallel_size", "pipeline_model_parallel_size", "num_virtual_stages_per_pipeline_rank")
        counts = ("gpus", "gpus_per_node", "global_batch_size", "seq_length", "mean_length", "train_iters", "top")
        for name in (*sizes, "context_parallel_size", *counts):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"--{name.replace('_', '-')} {value}: must be at least 1")
        for name in ("peak_tflops", "efficiency", "intra_node_bandwidth", "inter_node_bandwidth"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(f"--{name.replace('_', '-')} {getattr(self, name)}: must be above 0 and finite")
        if self.efficiency > 1:
            raise ConfigError(f"--efficiency {self.efficiency}: a share of the peak, at most 1")
        if self.gpus > self.gpus_per_node and self.gpus % self.gpus_per_node:
            raise ConfigError(f"--gpus {self.gpus}: not a whole number of nodes of {self.gpus_per_node} GPUs")
        if self.data is not None and (self.mean_length, self.length_spread) != (None, None):
            raise ConfigError("--mean-length and --length-spread have no effect beside --data, which has real lengths")
        if self.mean_length is not None and self.mean_length > self.seq_length:
            raise ConfigError(f"--mean-length {self.mean_length} is above --seq-length {self.seq_length}")
        if self.length_spread is not None and not 0 <= self.length_spread <= 3:
            raise ConfigError(f"--length-spread {self.length_spread}: must lie in 0..3")

    @property
    def memory_bytes(self) -> float:
        """Bytes of one GPU.

        Raises:
            ConfigError: for anything but a positive number with a known unit.
        """
        match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([A-Za-z]*)", self.gpu_memory)
        if match is None or match[2] not in _UNITS or float(match[1]) == 0:
            raise ConfigError(f"--gpu-memory {self.gpu_memory!r}: give a number with GiB, MiB, GB or MB")
        return float(match[1]) * _UNITS[match[2]]


def main(config: PlanConfig) -> None:
    """Reckon all layouts and print the best."""
    memory_bytes = config.memory_bytes
    geometry = geometry_of(config.model)
    workload = _workload(config, geometry)
    node = min(config.gpus_per_node, config.gpus)
    cluster = Cluster(
        num_gpus=config.gpus,
        gpus_per_node=node,
        peak_flops=config.peak_tflops * 1e12,
        efficiency=config.efficiency,
        intra_node_bandwidth=config.intra_node_bandwidth * 1e9,
        inter_node_bandwidth=config.inter_node_bandwidth * 1e9,
    )
    rules = SplitRules(
        gpus_per_node=node,
        seq_length=config.seq_length,
        global_batch_size=config.global_batch_size,
        sequence_parallel=not config.without_sequence_parallel,
    )
    given = {
        "tp": config.tensor_model_parallel_size,
        "pp": config.pipeline_model_parallel_size,
        "vpp": config.num_virtual_stages_per_pipeline_rank,
        "cp": config.context_parallel_size,
    }
    plan = search(
        workload, cluster, rules, memory_bytes, {name: size for name, size in given.items() if size is not None}
    )
    _print_premises(config, geometry, workload)
    _print_plan(config, workload, plan, memory_bytes)
    if config.json is not None:
        premises = {"model_flops": workload.flops, "tokens": workload.tokens, "parameters": num_parameters(geometry)}
        config.json.parent.mkdir(parents=True, exist_ok=True)
        write_json(config.json, premises | as_json(plan))
    if not plan.fitting:
        raise SystemExit(1)


def _workload(config: PlanConfig, geometry: ModelGeometry) -> Workload:
    if config.data is not None:
        batches = batches_of_shards(config.data, config.global_batch_size, config.seq_length)
    else:
        mean = config.mean_length if config.mean_length is not None else min(_MEAN_LENGTH, config.seq_length)
        spread = _LENGTH_SPREAD if config.length_spread is None else config.length_spread
        batches = [assumed_lengths(config.global_batch_size, mean, spread, config.seq_length)]
    every: tuple[Recompute, ...] = ("none", "selective", "full")
    options = MemoryOptions(
        precision=config.precision,
        recompute="none",
        seq_length=config.seq_length,
        chunked_loss=config.cross_entropy == "chunked",
        sequence_parallel=not config.without_sequence_parallel,
    )
    recomputes = every if config.recompute == "auto" else (config.recompute,)
    return Workload(geometry=geometry, batches=batches, options=options, recomputes=recomputes)


def _print_premises(config: PlanConfig, geometry: ModelGeometry, workload: Workload) -> None:
    num_samples = sum(len(lengths) for lengths in workload.batches)
    squares = sum(n * n for lengths in workload.batches for n in lengths)
    mean = workload.tokens * len(workload.batches) / num_samples
    source = f"from {config.data}" if config.data is not None else "assumed"
    print(f"model    {num_parameters(geometry) / 1e9:.3f} billion parameters, {geometry.num_layers} layers")
    print(
        f"batch    {config.global_batch_size} samples, mean {mean:.0f} tokens ({source}), root mean square "
        f"{(squares / num_samples) ** 0.5:.0f}; rows of {config.seq_length}"
    )
    print(f"work     {workload.flops / 1e15:.1f} PFLOP and {workload.tokens:.0f} real tokens an iteration")
    print(
        f"GPUs     {config.gpus}, {min(config.gpus, config.gpus_per_node)} per node, {config.gpu_memory}, "
        f"{config.peak_tflops:g} TFLOP/s at {config.efficiency:.0%}; precision {config.precision}"
    )
    print("estimates, not measurements: docs/parallelism.md")


def _print_plan(config: PlanConfig, workload: Workload, plan: Plan, memory_bytes: float) -> None:
    fitting, too_large = best_of_each(plan.fitting), plan.too_large
    print(f"\nfit      {len(plan.fitting)} of {len(plan.fitting) + len(plan.too_large)} combinations that can run")
    if fitting:
        shown = fitting[: config.top]
        lines = lines_of(
            shown,
            tokens=workload.tokens,
            num_gpus=config.gpus,
            num_iterations=config.train_iters,
            memory_bytes=memory_bytes,
        )
        print(*lines, sep="\n")
        too_large = [estimate for estimate in too_large if estimate.seconds < fitting[0].seconds]
        title = "faster, but too large"
    else:
        too_large = sorted(too_large, key=lambda estimate: estimate.memory.total)
        title = "nothing fits; the nearest"
    if too_large:
        print(f"\n{title}")
        print(
            *(f"  {shortfall(estimate, memory_bytes)}" for estimate in best_of_each(too_large)[: config.top]), sep="\n"
        )
    if plan.refused:
        print("\ncannot run")
        reasons = list(refusals(plan.refused))
        print(*(f"  {line}" for line in reasons[:_SHOWN_REFUSALS]), sep="\n")
        if len(reasons) > _SHOWN_REFUSALS:
            print(f"  and {len(reasons) - _SHOWN_REFUSALS} more reasons; --json has all")


if __name__ == "__main__":
    # Ends quietly when a pager or `head` has seen enough.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    sys.exit(cli.run(PlanConfig, main, prog="plan"))
