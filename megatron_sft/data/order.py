"""Which samples an iteration trains: a pure function of (seed, epoch, step), the same in every parallel layout."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from megatron_sft.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class SampleOrder:
    """The order of samples over a whole run.

    Iteration i (from 0) is step `i % steps_per_epoch` of epoch `i // steps_per_epoch` and trains exactly the samples
    `epoch_order(epoch)[step * B : (step + 1) * B]`. The last `num_samples % B` samples of an epoch's order are left
    out, as the published runs do (a distributed sampler with drop_last).
    """

    num_samples: int
    """Samples in the shards."""

    global_batch_size: int
    """Samples per iteration (B)."""

    shuffle: bool
    """Draw a new order for each epoch; otherwise every epoch follows the file order."""

    seed: int
    """Seed of the shuffles; without effect on the file order."""

    _kept: dict[int, NDArray[np.int64]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse a batch that the data cannot fill."""
        if not 1 <= self.global_batch_size <= self.num_samples:
            raise ConfigError(
                f"--global-batch-size {self.global_batch_size}: the data has {self.num_samples} samples; "
                f"choose 1 to {self.num_samples}"
            )

    @property
    def steps_per_epoch(self) -> int:
        """Iterations in one pass over the data."""
        return self.num_samples // self.global_batch_size

    @property
    def num_left_out(self) -> int:
        """Samples at the end of each epoch's order that do not fill a batch."""
        return self.num_samples % self.global_batch_size

    def epoch_order(self, epoch: int) -> NDArray[np.int64]:
        """Sample indices of an epoch, int64[num_samples]."""
        if not self.shuffle:
            return np.arange(self.num_samples, dtype=np.int64)
        generator = np.random.Generator(np.random.PCG64([self.seed, epoch]))
        return generator.permutation(self.num_samples).astype(np.int64)

    def batch(self, iteration: int) -> NDArray[np.int64]:
        """Sample indices of an iteration counted from 0, int64[global_batch_size]."""
        epoch, step = divmod(iteration, self.steps_per_epoch)
        start = step * self.global_batch_size
        if not self.shuffle:
            return np.arange(start, start + self.global_batch_size, dtype=np.int64)
        return self._shuffled(epoch)[start : start + self.global_batch_size]

    def _shuffled(self, epoch: int) -> NDArray[np.int64]:
        """The order of one epoch, kept until another one is asked for: drawing 10 million takes half a second."""
        if epoch not in self._kept:
            self._kept.clear()
            self._kept[epoch] = self.epoch_order(epoch)
        return self._kept[epoch]
