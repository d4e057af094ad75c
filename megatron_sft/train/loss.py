"""The loss of a row: weighted cross entropy over the real vocabulary.

The embedding has more rows than the vocabulary, so that it splits over tensor-parallel ranks. A softmax over these
logits as well would give padding a share of the probability: the loss would differ from the Hugging Face model's, and
from one padded size to another. Here padding gets none.
"""

import megatron_sft.model.lean_megatron  # noqa: F401

import torch
from megatron.core import parallel_state
from megatron.core.tensor_parallel import vocab_parallel_cross_entropy
from torch import Tensor

from megatron_sft.train.batch import Row


def weighted_loss(row: Row, vocab_size: int, logits: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """The row's share of the global loss, in the form that Megatron-Core's schedules take.

    Args:
        row: labels and weights of T places.
        vocab_size: entries of the vocabulary without padding.
        logits: [1, T, V / tp], this rank's part of the padded vocabulary.

    Returns:
        float32 scalar to differentiate; a token count of 1, which the gradient reduction ignores; the loss for logging.
    """
    losses = vocab_parallel_cross_entropy(without_padding(logits, vocab_size).float(), row.labels)
    loss = (losses.flatten() * row.loss_weights.flatten()).sum()
    return loss, torch.ones((), dtype=torch.int32, device=loss.device), {"loss": loss.detach()}


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
