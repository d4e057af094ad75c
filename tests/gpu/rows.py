"""Packed rows for a model alone, without the trainer."""

import torch

from megatron_sft.train.batch import Row


def row_of(documents: list[torch.Tensor]) -> Row:
    """A row of documents, int64[tokens] each, on their device; nothing in it is trained."""
    tokens, lengths = torch.cat(documents), [len(document) for document in documents]
    bounds = torch.tensor([0, *lengths]).cumsum(0)
    return Row(
        tokens=tokens[None],
        labels=torch.zeros_like(tokens)[None],
        loss_weights=torch.zeros(1, len(tokens), device=tokens.device),
        position_ids=torch.cat([torch.arange(length) for length in lengths])[None].to(tokens.device),
        cu_seqlens=bounds.int().to(tokens.device),
        max_seqlen=max(lengths),
        num_real_tokens=len(tokens),
    )
