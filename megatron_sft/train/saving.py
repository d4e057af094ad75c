"""When checkpoints are written, and which are kept."""

import time

from megatron_sft.train.checkpoint import CheckpointStore, PendingCheckpoint
from megatron_sft.train.learner import Learner
from megatron_sft.train.options import TrainOptions


class Saver:
    """Writes the checkpoints of a run, one at a time, in the background where asked.

    `save` and `finish` are collective: every rank calls them at the same point.
    """

    def __init__(
        self, options: TrainOptions, learner: Learner, checkpoints: CheckpointStore, *, is_first_rank: bool
    ) -> None:
        self._options = options
        self._learner = learner
        self._checkpoints = checkpoints
        self._is_first_rank = is_first_rank
        asynchronous = options.async_save
        self._in_background = not learner.device.is_cpu if asynchronous is None else asynchronous
        self._pending: PendingCheckpoint | None = None
        self._started = 0.0

    def save(self, iteration: int) -> None:
        """Begin to write a checkpoint, after the one before it is complete; wait for it unless in the background."""
        self.finish()
        self._started = time.perf_counter()
        self._pending = self._checkpoints.begin(self._learner, iteration, iteration * self._options.global_batch_size)
        if not self._in_background:
            self.finish()
        elif self._is_first_rank:
            held_up = time.perf_counter() - self._started
            print(f"saving iteration {iteration} in the background; copying it took {held_up:.1f} s", flush=True)

    @property
    def has_pending(self) -> bool:
        """Whether a checkpoint was begun and does not count yet; the same on every rank."""
        return self._pending is not None

    def is_writing(self) -> bool:
        """Whether this rank still writes."""
        return self._pending is not None and not self._pending.is_written()

    def finish(self) -> None:
        """Wait for the pending checkpoint, if there is one, and delete those that are not to be kept."""
        if self._pending is None:
            return
        iteration, folder = self._pending.iteration, self._pending.finish()
        self._pending = None
        if self._is_first_rank:
            print(f"saved {folder} in {time.perf_counter() - self._started:.1f} s", flush=True)
        if self._options.keep_checkpoints is not None:
            protected = {*self._options.listed_save_iters(), iteration}
            deleted = self._checkpoints.prune(self._options.keep_checkpoints, protected)
            if deleted and self._is_first_rank:
                print(f"deleted the checkpoints of iterations {deleted} (--keep-checkpoints)", flush=True)
