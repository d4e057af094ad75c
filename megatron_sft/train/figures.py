"""The figures of an iteration, gathered from all ranks.

Every rank plans the whole batch, so counts need no communication. What only one rank knows goes through one sum over
all ranks: B losses of samples, then a place of its own for each figure of each rank, zero on all others.
"""

import resource
import sys
from dataclasses import dataclass

import megatron_sft.model.lean_megatron  # noqa: F401

import numpy as np
import torch
from megatron.core import parallel_state
from numpy.typing import NDArray

from megatron_sft.data.shards import ShardReader
from megatron_sft.model.flops import model_flops
from megatron_sft.model.geometry import ModelGeometry
from megatron_sft.train.batch import StepBatch
from megatron_sft.train.fp8_health import fp8_health
from megatron_sft.train.learner import Learner
from megatron_sft.train.loss import RowLoss
from megatron_sft.train.monitor import StepRecord
from megatron_sft.train.parameter_norm import parameter_norm
from megatron_sft.train.sources import Sources

_OF_RANK = ("compute_s", "memory_bytes", "reserved_bytes", "amax", "num_bad")
_NO_RECORD = -1.0
_NUM_SUSPECTS = 3


@dataclass(frozen=True, kw_only=True)
class StepOutcome:
    """What an iteration left on this rank, with the figures that all ranks have alike."""

    iteration: int
    """Counted from 1."""
    batch: StepBatch
    losses: list[RowLoss]
    """Of this rank's rows, on ranks of the last stage."""
    loss: float
    """Of the global batch."""
    grad_norm: float
    """Before clipping."""
    lr: float
    """Of this update."""
    data_wait_s: float
    """Seconds that this rank waited for its rows."""


@dataclass(frozen=True, kw_only=True)
class Gathered:
    """What the ranks told each other."""

    sample_sums: NDArray[np.float64]
    """float64[B] for each sample of the batch the sum of its trained tokens' losses, nats."""
    ranks: dict[str, NDArray[np.float64]]
    """float64[world size] by the names of `_OF_RANK`."""
    params_norm: float | None
    """None where it is not due."""


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Makes the record of each iteration."""

    learner: Learner
    reader: ShardReader
    geometry: ModelGeometry
    dp_size: int
    """Data-parallel ranks."""
    steps_per_epoch: int
    """Iterations in a pass over the data."""
    sources: Sources | None
    """None where the shards have one source."""
    peak_tflops: float | None
    """Of one device; None where it is not known, and MFU with it."""
    clip_grad: float
    """Limit of the gradient norm; 0 for none."""
    params_norm_interval: int
    """Iterations between two norms of the weights; 0 for none."""

    def gather(self, outcome: StepOutcome) -> Gathered:
        """Collective over all ranks; the device's queues must be empty."""
        rank, world_size = torch.distributed.get_rank(), torch.distributed.get_world_size()
        batch = outcome.batch
        own_start = len(batch.samples) + rank * len(_OF_RANK)
        values = np.zeros(len(batch.samples) + world_size * len(_OF_RANK))
        self._add_sample_sums(values, batch, outcome.losses)
        values[own_start : own_start + len(_OF_RANK)] = self._of_this_rank(len(batch.rows))
        shared = torch.from_numpy(values).to(self.learner.device.torch_device)
        torch.distributed.all_reduce(shared)
        values = shared.cpu().numpy()
        of_ranks = values[len(batch.samples) :].reshape(world_size, len(_OF_RANK))
        return Gathered(
            sample_sums=values[: len(batch.samples)],
            ranks={name: of_ranks[:, i] for i, name in enumerate(_OF_RANK)},
            params_norm=self._params_norm(outcome.iteration),
        )

    def _params_norm(self, iteration: int) -> float | None:
        if self.params_norm_interval == 0 or iteration % self.params_norm_interval:
            return None
        with self.learner.whole_weights():
            return parameter_norm(self.learner.chunks, self.geometry.vocab_size)

    def _add_sample_sums(self, values: NDArray[np.float64], batch: StepBatch, losses: list[RowLoss]) -> None:
        """Tensor-parallel ranks hold the same losses, so one of them counts; context-parallel ones hold parts."""
        if not losses or parallel_state.get_tensor_model_parallel_rank() != 0:
            return
        # Behind a row's samples there may be a document of padding.
        sums = [row.documents[: len(samples)] for row, samples in zip(losses, batch.sample_indices, strict=True)]
        samples = np.array([sample for row in batch.sample_indices for sample in row], dtype=np.int64)
        order = np.argsort(batch.samples)
        places = order[np.searchsorted(batch.samples, samples, sorter=order)]
        values[places] = torch.cat(sums).double().cpu().numpy()

    def _of_this_rank(self, num_rows: int) -> list[float]:
        health = fp8_health(self.learner.chunks, num_rows)
        memory, reserved = self._memory()
        return [
            self.learner.progress.compute_seconds(),
            memory,
            reserved,
            health.amax if health else _NO_RECORD,
            health.num_bad if health else 0,
        ]

    def _memory(self) -> tuple[float, float]:
        """Peaks since the start in bytes: allocated and reserved on a GPU; resident, and none, on a CPU."""
        device = self.learner.device
        if device.is_cpu:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            return float(peak if sys.platform == "darwin" else peak * 1024), _NO_RECORD
        torch_device = device.torch_device
        return float(torch.cuda.max_memory_allocated(torch_device)), float(torch.cuda.max_memory_reserved(torch_device))

    def record(self, outcome: StepOutcome, gathered: Gathered, step_time_s: float) -> StepRecord:
        """The record of an iteration that took `step_time_s` seconds."""
        batch, ranks = outcome.batch, gathered.ranks
        world_size = torch.distributed.get_world_size()
        flops = model_flops(self.geometry, self.reader.lengths[batch.samples].tolist())
        tflops = flops / step_time_s / world_size / 1e12
        amax, reserved = float(ranks["amax"].max()), float(ranks["reserved_bytes"].max())
        has_fp8 = amax != _NO_RECORD
        mean_compute_s = float(ranks["compute_s"].mean())
        return StepRecord(
            iteration=outcome.iteration,
            loss=outcome.loss,
            source_losses=self._source_losses(batch, gathered.sample_sums),
            grad_norm=outcome.grad_norm,
            clipped_grad_norm=self._clipped(outcome.grad_norm),
            params_norm=gathered.params_norm,
            lr=outcome.lr,
            trained_tokens=batch.trained_tokens,
            tokens=batch.num_tokens,
            num_samples=batch.num_samples,
            num_rows=len(batch.rows) * self.dp_size,
            num_places=batch.num_places,
            fill=batch.num_tokens / batch.num_places,
            consumed_samples=outcome.iteration * batch.num_samples,
            epoch=outcome.iteration / self.steps_per_epoch,
            step_time_s=step_time_s,
            data_wait_s=outcome.data_wait_s,
            tokens_per_s=batch.num_tokens / step_time_s,
            tokens_per_s_per_gpu=batch.num_tokens / step_time_s / world_size,
            model_tflops_per_gpu=tflops,
            mfu=tflops / self.peak_tflops if self.peak_tflops else None,
            cost_imbalance=batch.cost_imbalance,
            time_imbalance=float(ranks["compute_s"].max()) / mean_compute_s if mean_compute_s > 0 else 1.0,
            memory_peak_bytes=int(ranks["memory_bytes"].max()),
            memory_reserved_bytes=int(reserved) if reserved != _NO_RECORD else None,
            fp8_amax=amax if has_fp8 else None,
            fp8_num_bad=int(ranks["num_bad"].sum()) if has_fp8 else None,
        )

    def _clipped(self, grad_norm: float) -> float:
        """As Megatron-Core clips: scaled by limit / (norm + 1e-6) where that is below 1."""
        return grad_norm * min(1.0, self.clip_grad / (grad_norm + 1e-6)) if self.clip_grad > 0 else grad_norm

    def _source_losses(self, batch: StepBatch, sample_sums: NDArray[np.float64]) -> dict[str, float]:
        if self.sources is None:
            return {}
        return self.sources.losses(batch.samples, sample_sums, self.reader.trained_tokens[batch.samples])

    def describe_samples(self, outcome: StepOutcome, gathered: Gathered) -> str:
        """The samples of an iteration, and those with the highest losses, for `tools/inspect_shards --sample`."""
        samples = outcome.batch.samples
        means = gathered.sample_sums / self.reader.trained_tokens[samples]
        worst = np.argsort(-means, kind="stable")[:_NUM_SUSPECTS]
        shown = ", ".join(f"{samples[i]} ({means[i]:.3f})" for i in worst)
        return f"{describe_range(samples)}; the highest losses: {shown}"


def describe_range(samples: NDArray[np.int64]) -> str:
    """Such as `samples 512 to 767`, or the first of them where they do not follow each other."""
    if bool((np.diff(samples) == 1).all()):
        return f"samples {samples[0]} to {samples[-1]}" if len(samples) > 1 else f"sample {samples[0]}"
    first = ", ".join(str(sample) for sample in samples[:8])
    return f"{len(samples)} samples ({first}{', ...' if len(samples) > 8 else ''})"
