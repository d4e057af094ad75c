"""The loss of places of a row: weighted cross entropy over the real vocabulary.

The embedding has more rows than the vocabulary, so that it splits over tensor-parallel ranks. A softmax over these
logits as well would give padding a share of the probability: the loss would differ from the Hugging Face model's, and
from one padded size to another. Here padding gets none.
"""

import megatron_sft.model.lean_megatron  # noqa: F401

import torch
from megatron.core import parallel_state
from megatron.core.tensor_parallel import vocab_parallel_cross_entropy
from torch import Tensor


def weighted_loss(logits: Tensor, labels: Tensor, weights: Tensor, vocab_size: int) -> Tensor:
    """Weighted sum of the negative log likelihoods, float32 scalar.

    Args:
        logits: [1, T, V / tp], this rank's part of the padded vocabulary.
        labels: int64[1, T].
        weights: float32[1, T].
        vocab_size: entries of the vocabulary without padding.
    """
    losses = vocab_parallel_cross_entropy(without_padding(logits, vocab_size).float(), labels)
    total: Tensor = (losses.flatten() * weights.flatten()).sum()
    return total


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
