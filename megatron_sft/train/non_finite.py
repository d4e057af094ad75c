"""Says where a loss or gradient that is not finite came from."""

import megatron_sft.model.lean_megatron  # noqa: F401

import torch

from megatron_sft.train.batch import StepBatch
from megatron_sft.train.figures import describe_range
from megatron_sft.train.loss import RowLoss


def describe_non_finite(iteration: int, batch: StepBatch, losses: list[RowLoss], loss: float, grad_norm: float) -> str:
    """The message that a run ends with, the same on every rank; collective, for all ranks see the same loss and norm.

    Names each rank with a bad loss and its samples. Where only the gradient is not finite, which is summed over all
    ranks by then, it names the samples of the batch.
    """
    found: list[list[int]] = [[] for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather_object(found, bad_samples(batch, losses))
    bad = {rank: samples for rank, samples in enumerate(found) if samples}
    ranks = ", ".join(map(str, bad)) if bad else "all"
    where = "; ".join(f"rank {rank}: samples {samples}" for rank, samples in bad.items())
    where = where or f"every loss is finite, its samples are {describe_range(batch.samples)}"
    return (
        f"iteration {iteration}, rank {ranks}: loss {loss}, gradient norm {grad_norm}; {where}. Stopped before the "
        "update. Look at these samples (tools/inspect_shards --sample), lower --lr, or raise --lr-warmup-iters"
    )


def bad_samples(batch: StepBatch, losses: list[RowLoss]) -> list[int]:
    """Samples of this rank whose loss is not finite; all of a row whose samples look sound while their sum is not."""
    bad: list[int] = []
    for row, samples in zip(losses, batch.sample_indices, strict=False):
        if row.share.isfinite():
            continue
        is_finite = row.documents[: len(samples)].isfinite().tolist()
        of_row = [sample for sample, fine in zip(samples, is_finite, strict=True) if not fine]
        bad += of_row or samples
    return bad
