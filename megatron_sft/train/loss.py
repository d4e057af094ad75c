"""The loss of places of a row: weighted cross entropy over the real vocabulary.

The embedding has more rows than the vocabulary, so that it splits over tensor-parallel ranks. A softmax over these
logits as well would give padding a share of the probability: the loss would differ from the Hugging Face model's, and
from one padded size to another. Here padding gets none.
"""

from dataclasses import dataclass

import megatron_sft.model.lean_megatron  # noqa: F401

import torch
from megatron.core import parallel_state
from megatron.core.tensor_parallel import vocab_parallel_cross_entropy
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class RowLoss:
    """What a row tells of its loss, apart from the gradient."""

    share: Tensor
    """float32 scalar: the row's part of the global batch's weighted sum."""
    documents: Tensor
    """float32[N] for each document of the row (padding at its end is one) the sum of the negative log likelihoods of
    its trained tokens that lie on this rank, without weights."""


def token_losses(logits: Tensor, labels: Tensor, vocab_size: int) -> Tensor:
    """Negative log likelihoods, float32[1, T].

    Args:
        logits: [1, T, V / tp], this rank's part of the padded vocabulary.
        labels: int64[1, T].
        vocab_size: entries of the vocabulary without padding.
    """
    losses: Tensor = vocab_parallel_cross_entropy(without_padding(logits, vocab_size).float(), labels)
    return losses


def weighted_sum(losses: Tensor, weights: Tensor) -> Tensor:
    """The scalar that is differentiated; losses and weights float32[1, T]."""
    return (losses.flatten() * weights.flatten()).sum()


def document_sums(losses: Tensor, weights: Tensor, lengths: Tensor) -> Tensor:
    """Sums of the trained tokens' losses in each document, float32[N]; one document never touches another's sum.

    Args:
        losses: float32[P].
        weights: float32[P]; above 0 where a token is trained.
        lengths: int64[N] places of each document; together P.
    """
    trained = losses.where(weights > 0, 0.0)
    return torch.segment_reduce(trained, "sum", lengths=lengths, unsafe=True)


def without_padding(logits: Tensor, vocab_size: int) -> Tensor:
    """Give padded entries of the vocabulary, [..., V / tp], no probability."""
    width = logits.shape[-1]
    num_real = min(max(vocab_size - parallel_state.get_tensor_model_parallel_rank() * width, 0), width)
    if num_real == width:
        return logits
    if parallel_state.get_tensor_model_parallel_world_size() == 1:
        return logits[..., :num_real]
    # Ranks must keep equal widths: labels are found by rank x width.
    is_padding = torch.arange(width, device=logits.device) >= num_real
    return logits.masked_fill(is_padding, torch.finfo(logits.dtype).min)
