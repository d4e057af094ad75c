"""What transformers computes for a few documents, each alone: the reference for packed rows of them."""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

VOCAB_SIZE = 101


@dataclass(frozen=True)
class Reference:
    """Documents of a row, T tokens together."""

    lengths: list[int]
    tokens: torch.Tensor
    """int64[T]."""
    logits: torch.Tensor
    """float32[T, vocab], of each document alone."""

    def labels_and_weights(self) -> tuple[torch.Tensor, torch.Tensor]:
        """int64[T] the next token of the same document, and float32[T] whether there is one."""
        labels = self.tokens.roll(-1)
        weights = torch.ones(len(labels))
        weights[torch.tensor(self.lengths).cumsum(0) - 1] = 0.0
        return labels, weights


def make_reference(folder: Path, lengths: list[int], gradients: dict[str, torch.Tensor] | None = None) -> Reference:
    """Run transformers' model on random documents of these lengths."""
    tokens = torch.randint(0, VOCAB_SIZE, (sum(lengths),), generator=torch.Generator().manual_seed(1))
    return reference_of(folder, tokens, lengths, gradients)


def reference_of(
    folder: Path, tokens: torch.Tensor, lengths: list[int], gradients: dict[str, torch.Tensor] | None = None
) -> Reference:
    """Run transformers' model on documents.

    Args:
        folder: a model folder that transformers opens.
        tokens: int64[T], the documents one after another.
        lengths: tokens of each document.
        gradients: filled with the gradients of the summed loss of all documents, if given.
    """
    import transformers

    model: Any = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    logits = torch.cat([model(document[None]).logits[0] for document in tokens.split(lengths)])
    assert logits.std() > 0.1, "logits too small to tell models apart"
    if gradients is not None:
        bounds = [0, *torch.tensor(lengths).cumsum(0).tolist()]
        for start, end in pairwise(bounds):
            asked, labels = logits[start : end - 1], tokens[start + 1 : end]
            torch.nn.functional.cross_entropy(asked, labels, reduction="sum").backward(retain_graph=True)
        gradients |= {name: parameter.grad for name, parameter in model.named_parameters()}
    return Reference(lengths=lengths, tokens=tokens, logits=logits.detach())
