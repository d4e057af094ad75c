"""How much each trained token counts in the loss of a global batch.

Whatever the weighting, it is a number per sample, known before packing: so rows, ranks and layouts change nothing.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from megatron_sft.errors import ConfigError

Kind = Literal["token-mean", "sample-mean", "reference"]


@dataclass(frozen=True, kw_only=True)
class SampleWeights:
    """Weights of one global batch of B samples."""

    per_token: NDArray[np.float64]
    """float64[B] weight of each trained token of a sample in the sum that is differentiated."""
    total: float
    """Sum over all trained tokens. The loss that is reported is the weighted sum divided by it."""


@dataclass(frozen=True, kw_only=True)
class LossWeighting:
    """A rule that gives trained tokens their weights."""

    kind: Kind = "token-mean"
    """`token-mean`: every trained token of the global batch counts the same. `sample-mean`: every sample does.
    `reference`: as the paper's trainer had it, see `reference_weights`."""
    reference_ranks: int = 8
    """GPUs of the trainer that `reference` imitates."""
    reference_group_size: int = 4
    """Samples in one of its micro-batches."""

    def check(self, global_batch_size: int) -> None:
        """Refuse a batch that the reference trainer could not have dealt out.

        Raises:
            ConfigError: names the options.
        """
        ranks, size = self.reference_ranks, self.reference_group_size
        if min(ranks, size) < 1:
            raise ConfigError(f"--reference-ranks {ranks} --reference-group-size {size}: both must be at least 1")
        if self.kind == "reference" and global_batch_size % (ranks * size):
            raise ConfigError(
                f"--loss-weighting reference: --global-batch-size {global_batch_size} is not a multiple of "
                f"--reference-ranks {ranks} x --reference-group-size {size} = {ranks * size}"
            )

    def weights(self, trained_tokens: NDArray[np.int64]) -> SampleWeights:
        """Weights for samples with these numbers of trained tokens, int64[B], each at least 1, in batch order."""
        counts = trained_tokens.astype(np.float64)
        if self.kind == "sample-mean":
            return SampleWeights(per_token=1.0 / (counts * len(counts)), total=1.0)
        if self.kind == "reference":
            return reference_weights(counts, self.reference_ranks, self.reference_group_size)
        return SampleWeights(per_token=np.full(len(counts), 1.0 / counts.sum()), total=1.0)


def reference_weights(counts: NDArray[np.float64], num_ranks: int, group_size: int) -> SampleWeights:
    """Token means of small groups, summed over a rank's groups and averaged over ranks.

    The trainer of arXiv 2604.06628 deals the batch's samples to its ranks in turn and cuts each rank's share into
    groups (micro-batches); group t of rank r holds the samples `r + num_ranks * (group_size * t + j)`, j below
    `group_size`. Each group's loss is the mean over its trained tokens. Gradients are added up over a rank's groups and
    averaged over the ranks, so they are `total` = groups per rank times as large as those of the mean group loss,
    which is what that trainer reports.

    Args:
        counts: float64[B] trained tokens of each sample; B is a multiple of `num_ranks * group_size`.
        num_ranks: GPUs of that trainer.
        group_size: samples in one of its micro-batches.
    """
    # [groups of a rank, place in the group, rank]
    by_group = counts.reshape(-1, group_size, num_ranks)
    tokens_of_group = by_group.sum(axis=1, keepdims=True)
    per_token = np.broadcast_to(1.0 / (num_ranks * tokens_of_group), by_group.shape).reshape(-1)
    return SampleWeights(per_token=per_token, total=float(len(by_group)))
