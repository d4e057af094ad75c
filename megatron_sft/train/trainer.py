"""The training loop: the same on one CPU process and on many GPUs."""

import math
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import megatron_sft.model.lean_megatron  # noqa: F401

import torch
from megatron.core import parallel_state
from torch import Tensor

from megatron_sft.errors import Interrupted, NonFiniteError
from megatron_sft.train.batch import BatchBuilder, StepBatch
from megatron_sft.train.checkpoint import CheckpointStore
from megatron_sft.train.learner import Learner
from megatron_sft.train.monitor import Monitor, StepRecord
from megatron_sft.train.options import TrainOptions
from megatron_sft.train.stop_signal import StopSignal


@dataclass(frozen=True, kw_only=True)
class Trainer:
    """Runs the iterations of one run on this rank."""

    options: TrainOptions
    learner: Learner
    batches: BatchBuilder
    checkpoints: CheckpointStore
    monitor: Monitor | None
    """On rank 0 only."""

    def train(self, first_iteration: int) -> None:
        """Train from `first_iteration` (counted from 1) to `--train-iters`, saving where asked.

        Raises:
            NonFiniteError: when a loss or the gradient norm is not finite; nothing was updated in that iteration.
            Interrupted: when some rank got SIGTERM; the iteration was finished and saved.
        """
        with StopSignal().listen() as stop:
            started = time.perf_counter()
            for iteration, batch, data_wait_s in self._batches(first_iteration):
                record, is_stopping = self._step(iteration, batch, started, data_wait_s, stop)
                if self.monitor:
                    self.monitor.record(record, train_iters=self.options.train_iters)
                if self.options.saves_at(iteration) or is_stopping:
                    self._save(iteration)
                if is_stopping and iteration < self.options.train_iters:
                    raise Interrupted(f"SIGTERM: saved iteration {iteration}; the same command goes on from there")
                started = time.perf_counter()

    def _batches(self, first_iteration: int) -> Iterator[tuple[int, StepBatch, float]]:
        """Iterations with their batches and the seconds waited; the next batch is built while one is trained."""
        iterations = range(first_iteration, self.options.train_iters + 1)
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches") as background:
            pending = background.submit(self.batches.build, first_iteration - 1) if iterations else None
            for iteration in iterations:
                assert pending is not None
                started = time.perf_counter()
                batch = pending.result()
                waited = time.perf_counter() - started
                pending = background.submit(self.batches.build, iteration) if iteration < iterations[-1] else None
                yield iteration, batch, waited

    def _step(
        self, iteration: int, batch: StepBatch, started: float, data_wait_s: float, stop: StopSignal
    ) -> tuple[StepRecord, bool]:
        """Train one iteration; also returns whether some rank was told to stop."""
        learning_rate = self.learner.learning_rate()
        losses = self.learner.accumulate(batch.to(self.learner.device.torch_device))
        weighted_sum, num_stopping = self._over_all_ranks(losses, stop.received)
        loss = weighted_sum / batch.loss_weight
        grad_norm = self.learner.gradient_norm()
        if not (math.isfinite(loss) and math.isfinite(grad_norm)):
            raise NonFiniteError(self._describe_non_finite(iteration, batch, losses, loss, grad_norm))
        self.learner.update(batch.num_samples)
        self.learner.device.synchronize()
        step_time_s = time.perf_counter() - started
        consumed_samples = iteration * batch.num_samples
        record = StepRecord(
            iteration=iteration,
            loss=loss,
            grad_norm=grad_norm,
            lr=learning_rate,
            trained_tokens=batch.trained_tokens,
            tokens=batch.num_tokens,
            num_samples=batch.num_samples,
            num_rows=len(batch.rows) * self.batches.dp_size,
            row_length=batch.row_length,
            fill=batch.fill,
            consumed_samples=consumed_samples,
            epoch=iteration / self.batches.order.steps_per_epoch,
            step_time_s=step_time_s,
            data_wait_s=data_wait_s,
            tokens_per_s=batch.num_tokens / step_time_s,
        )
        return record, num_stopping > 0

    def _over_all_ranks(self, losses: list[Tensor], is_stopping: bool) -> tuple[float, float]:
        """Sum of the rows' shares of the loss, and how many ranks were told to stop.

        Tensor-parallel ranks hold the same losses, so one of them counts.
        """
        totals = torch.zeros(2, dtype=torch.float32, device=self.learner.device.torch_device)
        if losses and parallel_state.get_tensor_model_parallel_rank() == 0:
            totals[0] = torch.stack(losses).sum()
        totals[1] = float(is_stopping)
        torch.distributed.all_reduce(totals)
        return float(totals[0]), float(totals[1])

    def _describe_non_finite(
        self, iteration: int, batch: StepBatch, losses: list[Tensor], loss: float, grad_norm: float
    ) -> str:
        bad = [samples for value, samples in zip(losses, batch.sample_indices, strict=False) if not value.isfinite()]
        rows = f"rows with samples {bad}" if bad else f"its samples {batch.sample_indices}"
        return (
            f"iteration {iteration}, rank {torch.distributed.get_rank()}: loss {loss}, gradient norm {grad_norm}; "
            f"{rows}. "
            "Stopped before the update. Look at these samples, lower --lr, or raise --lr-warmup-iters"
        )

    def _save(self, iteration: int) -> None:
        started = time.perf_counter()
        folder = self.checkpoints.write(self.learner, iteration, iteration * self.options.global_batch_size)
        if self.monitor:
            self.monitor.flush()
            print(f"saved {folder} in {time.perf_counter() - started:.1f} s", flush=True)
        if self.options.keep_checkpoints is not None:
            protected = {*self.options.listed_save_iters(), iteration}
            deleted = self.checkpoints.prune(self.options.keep_checkpoints, protected)
            if deleted:
                print(f"deleted the checkpoints of iterations {deleted} (--keep-checkpoints)", flush=True)
