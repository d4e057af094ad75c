"""Rows whose tokens are shared out over context-parallel ranks, or over tensor-parallel ones."""

import megatron_sft.model.lean_megatron  # noqa: F401

import numpy as np
import torch

from megatron_sft.data.shards import RowArrays
from megatron_sft.model.attention import local_places


def pad_documents(row: RowArrays, document_multiple: int, num_tokens: int) -> RowArrays:
    """Give every document padding at its end, so that it can be cut into equal pieces, and then the row.

    The padding has no label and no weight, and no token in front of it sees it: the loss stays as it is.

    Args:
        row: a row without padding between or behind its documents.
        document_multiple: each document's length becomes a multiple of this.
        num_tokens: length of the result, a multiple of `document_multiple`; what the documents leave of it is one more.

    Worked example: documents of 3 and 4 tokens, multiples of 4 and 16 tokens give the boundaries 0, 4, 8, 16.
    """
    lengths = np.diff(row.cu_seqlens)
    padded = -(-lengths // document_multiple) * document_multiple
    ends = np.cumsum(padded)
    places = np.arange(len(row.tokens)) + np.repeat(ends - padded - row.cu_seqlens[:-1], lengths)
    bounds = np.concatenate(([0], ends, [num_tokens] if num_tokens > ends[-1] else []))
    moved = {name: np.zeros(num_tokens, getattr(row, name).dtype) for name in ("tokens", "labels", "loss_weights")}
    for name, array in moved.items():
        array[places] = getattr(row, name)
    document_lengths = np.diff(bounds).astype(np.int64)
    return RowArrays(
        **moved,
        position_ids=np.arange(num_tokens) - np.repeat(bounds[:-1].astype(np.int64), document_lengths),
        cu_seqlens=bounds.astype(np.int32),
        max_seqlen=int(document_lengths.max()),
        num_real_tokens=row.num_real_tokens,
    )


def share_of_rank(row: RowArrays, cp_rank: int, cp_size: int) -> RowArrays:
    """The tokens that one context-parallel rank holds; the boundaries stay those of the whole row."""
    places = local_places(torch.from_numpy(row.cu_seqlens), cp_rank, cp_size).numpy()
    return RowArrays(
        tokens=row.tokens[places],
        labels=row.labels[places],
        loss_weights=row.loss_weights[places],
        position_ids=row.position_ids[places],
        cu_seqlens=row.cu_seqlens,
        max_seqlen=row.max_seqlen,
        num_real_tokens=row.num_real_tokens,
    )
