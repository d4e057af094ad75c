"""From the last layer's output to the loss, a piece of the row at a time.

The logits of a row of 20,480 tokens over 152,000 entries take 12 GB in float32, and their gradient as much again.
Nothing but the loss is wanted of them: so the model is kept from computing them, and each piece's logits live for as
long as the piece's loss is computed, in the backward pass once more.
"""

from typing import Any

import megatron_sft.model.lean_megatron  # noqa: F401

import torch
from megatron.core import parallel_state
from megatron.core.models.gpt import GPTModel
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from megatron_sft.model.weight_gradient import add_to_main_gradient
from megatron_sft.train.batch import Row
from megatron_sft.train.loss import RowLoss, document_sums, token_losses, weighted_sum


class OutputInPieces:
    """The output layer and the loss of a model that holds the last stage."""

    def __init__(self, model: GPTModel, vocab_size: int, piece_tokens: int) -> None:
        """From now on `model` gives hidden states, [1, S, H], instead of logits."""
        self._layer = model.output_layer
        add_to_main_gradient(self._layer)
        self._compute_logits = self._layer.forward
        self._layer.forward = self._pass_on
        self._weight: Tensor | None = None
        self._vocab_size = vocab_size
        self._cp_size = parallel_state.get_context_parallel_world_size()
        self._shares = parallel_state.get_tensor_model_parallel_world_size() if self._layer.sequence_parallel else 1
        # With sequence parallelism each rank adds its share to the piece.
        self._piece_tokens = max(1, piece_tokens // self._shares)

    def loss(self, row: Row, hidden: Tensor) -> tuple[Tensor, Tensor, RowLoss]:
        """The row's share of the loss, in the form that Megatron-Core's schedules take.

        Returns:
            The sum to differentiate; a token count of 1, which the gradient reduction ignores; what is logged.

        Args:
            row: labels and weights of P places.
            hidden: [1, S, H], S = P, or this rank's P / tp places of them with sequence parallelism.
        """
        hidden = hidden.transpose(0, 1)
        labels, weights = (x.view(self._shares, -1) for x in (row.labels, row.loss_weights))
        pieces = []
        for start in range(0, len(hidden), self._piece_tokens):
            place = slice(start, start + self._piece_tokens)
            piece = (hidden[place], labels[:, place].reshape(1, -1), weights[:, place].reshape(1, -1))
            if len(hidden) <= self._piece_tokens:
                pieces.append(self._loss_of_piece(*piece))
            else:
                pieces.append(checkpoint(self._loss_of_piece, *piece, use_reentrant=False, preserve_rng_state=False))
        loss = torch.stack([share for share, _ in pieces]).sum()
        # Each piece has its places of every share; side by side they are in the order of the row again.
        losses = torch.cat([losses.view(self._shares, -1) for _, losses in pieces], dim=1).flatten()
        lengths = row.cu_seqlens.diff().long() // self._cp_size
        documents = document_sums(losses, row.loss_weights.flatten(), lengths)
        count = torch.ones((), dtype=torch.int32, device=loss.device)
        return loss, count, RowLoss(share=loss.detach(), documents=documents)

    def _loss_of_piece(self, hidden: Tensor, labels: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        logits, _ = self._compute_logits(hidden, weight=self._weight)
        losses = token_losses(logits.transpose(0, 1), labels, self._vocab_size)
        return weighted_sum(losses, weights), losses.detach()

    def _pass_on(self, hidden: Tensor, weight: Tensor | None = None, **_: Any) -> tuple[Tensor, None]:
        self._weight = weight
        return hidden, None
