"""The training loop: the same on one CPU process and on many GPUs."""

import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import megatron_sft.model.lean_megatron  # noqa: F401

import torch
from megatron.core import parallel_state

from megatron_sft.errors import Interrupted, NonFiniteError
from megatron_sft.train.batch import BatchBuilder, StepBatch
from megatron_sft.train.figures import Figures, StepOutcome
from megatron_sft.train.learner import Learner
from megatron_sft.train.loss import RowLoss
from megatron_sft.train.monitor import Monitor
from megatron_sft.train.non_finite import describe_non_finite
from megatron_sft.train.options import TrainOptions
from megatron_sft.train.progress import CHECKING, DATA_WAIT, FIGURES, SAVING, UPDATING
from megatron_sft.train.saving import Saver
from megatron_sft.train.stop_signal import StopSignal


@dataclass(frozen=True, kw_only=True)
class Trainer:
    """Runs the iterations of one run on this rank."""

    options: TrainOptions
    learner: Learner
    batches: BatchBuilder
    saver: Saver
    figures: Figures
    monitor: Monitor | None
    """On rank 0 only."""

    def train(self, first_iteration: int, after_each: Callable[[], None] = lambda: None) -> None:
        """Train from `first_iteration` (counted from 1) to `--train-iters`, saving where asked.

        `after_each` is called after each iteration.

        Raises:
            NonFiniteError: when a loss or the gradient norm is not finite; nothing was updated in that iteration.
            Interrupted: when some rank got SIGTERM; the iteration was finished and saved.
        """
        with StopSignal().listen() as stop:
            started = time.perf_counter()
            for iteration, batch, data_wait_s in self._batches(first_iteration):
                outcome, is_stopping = self._step(iteration, batch, data_wait_s, stop)
                self._record(outcome, started)
                if self.options.saves_at(iteration) or is_stopping:
                    self._save(iteration)
                if is_stopping and iteration < self.options.train_iters:
                    self._finish_save()
                    raise Interrupted(f"SIGTERM: saved iteration {iteration}; the same command goes on from there")
                after_each()
                started = time.perf_counter()
            self._finish_save()

    def _batches(self, first_iteration: int) -> Iterator[tuple[int, StepBatch, float]]:
        """Iterations with their batches and the seconds waited; the next batch is built while one is trained."""
        iterations = range(first_iteration, self.options.train_iters + 1)
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches") as background:
            pending = background.submit(self.batches.build, first_iteration - 1) if iterations else None
            for iteration in iterations:
                assert pending is not None
                batch, waited = self._wait(iteration, pending)
                pending = background.submit(self.batches.build, iteration) if iteration < iterations[-1] else None
                yield iteration, batch, waited

    def _wait(self, iteration: int, pending: Future[StepBatch]) -> tuple[StepBatch, float]:
        started = time.perf_counter()
        with self.learner.progress.phase(DATA_WAIT, iteration):
            batch = pending.result()
        return batch, time.perf_counter() - started

    def _step(self, iteration: int, batch: StepBatch, data_wait_s: float, stop: StopSignal) -> tuple[StepOutcome, bool]:
        """Train one iteration; also returns whether some rank was told to stop."""
        lr = self.learner.learning_rate()
        losses = self.learner.accumulate(batch.to(self.learner.device.torch_device))
        with self.learner.progress.phase(CHECKING):
            weighted_sum, num_stopping, num_writing = self._over_all_ranks(losses, stop.received)
            loss = weighted_sum / batch.loss_weight
            grad_norm = self.learner.gradient_norm()
            if not (math.isfinite(loss) and math.isfinite(grad_norm)):
                self._finish_save()
                raise NonFiniteError(describe_non_finite(iteration, batch, losses, loss, grad_norm))
        with self.learner.progress.phase(UPDATING):
            self.learner.update(batch.num_samples)
            self.learner.device.synchronize()
        if num_writing == 0:
            # A checkpoint that was being written in the background is on all disks.
            self._finish_save()
        outcome = StepOutcome(
            iteration=iteration,
            batch=batch,
            losses=losses,
            loss=loss,
            grad_norm=grad_norm,
            lr=lr,
            data_wait_s=data_wait_s,
        )
        return outcome, num_stopping > 0

    def _over_all_ranks(self, losses: list[RowLoss], is_stopping: bool) -> tuple[float, float, float]:
        """Sum of the rows' shares of the loss, how many ranks were told to stop, and how many still write a checkpoint.

        Tensor-parallel ranks hold the same losses, so one of them counts.
        """
        totals = torch.zeros(3, dtype=torch.float32, device=self.learner.device.torch_device)
        if losses and parallel_state.get_tensor_model_parallel_rank() == 0:
            totals[0] = torch.stack([row.share for row in losses]).sum()
        totals[1] = float(is_stopping)
        totals[2] = float(self.saver.is_writing())
        torch.distributed.all_reduce(totals)
        weighted_sum, num_stopping, num_writing = totals.tolist()
        return weighted_sum, num_stopping, num_writing

    def _record(self, outcome: StepOutcome, started: float) -> None:
        with self.learner.progress.phase(FIGURES):
            gathered = self.figures.gather(outcome)
            if self.monitor:
                record = self.figures.record(outcome, gathered, time.perf_counter() - started)
                samples = self.figures.describe_samples(outcome, gathered)
                self.monitor.record(record, train_iters=self.options.train_iters, samples=samples)

    def _save(self, iteration: int) -> None:
        with self.learner.progress.phase(SAVING):
            if self.monitor:
                self.monitor.flush()
            self.saver.save(iteration)

    def _finish_save(self) -> None:
        """Complete the checkpoint that is being written, if there is one."""
        if self.saver.has_pending:
            with self.learner.progress.phase(SAVING):
                self.saver.finish()
