"""Core attention over packed rows in plain torch, for machines without TransformerEngine.

Megatron-Core's own `DotProductAttention` refuses `packed_seq_params`. `PackedAttention` has the constructor and call
of `TEDotProductAttention`, so that it goes into the same place of the layer spec, and the trainer hands the same
packed batch to both.

Shapes: T tokens of a row, P of them on this context-parallel rank (P = T without context parallelism), H query heads
and G key-value groups of this tensor-parallel rank, D head dimension.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import megatron_sft.model.lean_megatron  # noqa: F401

import torch
from megatron.core import parallel_state
from megatron.core.packed_seq_params import PackedSeqParams
from megatron.core.tensor_parallel.mappings import gather_from_sequence_parallel_region
from megatron.core.transformer.enums import AttnMaskType
from megatron.core.transformer.module import MegatronModule
from megatron.core.transformer.transformer_config import TransformerConfig
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from megatron_sft.errors import ConfigError

_MAX_PADDING = 1.25
"""A batch of documents may cost at most this factor of its real tokens in padding; beyond it a new batch begins."""


@dataclass(frozen=True, kw_only=True)
class DocumentBatch:
    """N documents of similar length that are attended in one call, at most L tokens each, Q of them here."""

    queries: Tensor
    """int64[N, Q] places among this rank's tokens; places past a document's end repeat its last token."""
    keys: Tensor
    """int64[N, L] places among the keys of all context-parallel ranks, one rank after the other; likewise."""
    mask: Tensor | None
    """bool[N, 1, Q, L] True where a query sees a key; None where Q is L and the mask is causal: no real token sees the
    places past a document's end then either."""


@dataclass(frozen=True, kw_only=True)
class RowLayout:
    """How the documents of one row are batched."""

    batches: list[DocumentBatch]
    """Every token of this rank is a query in exactly one of them."""

    order: Tensor
    """int64[P]: where each token of this rank lies in the concatenated, flattened batches."""


class PackedAttention(MegatronModule):
    """Causal self-attention within each document of a packed row (`qkv_format="thd"`).

    Source of the contract: `megatron.core.extensions.transformer_engine.TEDotProductAttention`.
    """

    def __init__(
        self,
        config: TransformerConfig,
        layer_number: int,
        attn_mask_type: AttnMaskType,
        attention_type: str,
        attention_dropout: float | None = None,
        softmax_scale: float | None = None,
        cp_comm_type: str | None = None,
        pg_collection: Any = None,
        **_: Any,
    ) -> None:
        super().__init__(config=config)
        dropout = config.attention_dropout if attention_dropout is None else attention_dropout
        if dropout:
            raise ConfigError(f"attention dropout {dropout}: PackedAttention supports only 0")
        self.cp_size = config.context_parallel_size
        self.softmax_scale = softmax_scale
        self.layer_number = layer_number

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        attn_mask_type: AttnMaskType | None = None,
        attention_bias: Tensor | None = None,
        packed_seq_params: PackedSeqParams | None = None,
    ) -> Tensor:
        """Attend.

        Args:
            query: [P, H, D]; key and value: [P, G, D].
            attention_mask: must be None: documents and causality come from `packed_seq_params`.
            packed_seq_params: `cu_seqlens_q` int32[documents + 1], rising from 0 to T. With context parallelism a rank
                holds of each document the two pieces that `local_places` names.

        Returns:
            [P, H * D]
        """
        assert packed_seq_params is not None, "PackedAttention takes packed rows only"
        assert attention_mask is None and attention_bias is None, "masks follow from cu_seqlens"
        grouped = key.shape[1] != query.shape[1]
        layout = self._row_layout(packed_seq_params)
        if self.cp_size > 1:
            group = parallel_state.get_context_parallel_group()
            key, value = (gather_from_sequence_parallel_region(x.contiguous(), group=group) for x in (key, value))
        attended = [
            scaled_dot_product_attention(
                _by_head(query, batch.queries),
                _by_head(key, batch.keys),
                _by_head(value, batch.keys),
                attn_mask=batch.mask,
                is_causal=batch.mask is None,
                scale=self.softmax_scale,
                enable_gqa=grouped,
            )
            .transpose(1, 2)
            .flatten(0, 1)
            for batch in layout.batches
        ]
        return torch.cat(attended).index_select(0, layout.order).flatten(1)

    def _row_layout(self, params: PackedSeqParams) -> RowLayout:
        """The layout of a row; computed once per row, as every layer needs the same one."""
        layout: RowLayout | None = getattr(params, "row_layout", None)
        if layout is None:
            rank = parallel_state.get_context_parallel_rank() if self.cp_size > 1 else 0
            layout = lay_out_row(params.cu_seqlens_q, rank, self.cp_size)
            params.row_layout = layout
        return layout


def _by_head(x: Tensor, gather: Tensor) -> Tensor:
    """[T, H, D] and int64[N, L] -> [N, H, L, D]."""
    return x.index_select(0, gather.flatten()).view(*gather.shape, *x.shape[1:]).transpose(1, 2)


def local_places(cu_seqlens: Tensor, cp_rank: int, cp_size: int) -> Tensor:
    """Places of a row that one context-parallel rank holds, int64[T / cp_size], in the order in which it holds them.

    Each document is cut into `2 * cp_size` pieces of equal length, and rank r holds the pieces r and `2 * cp_size - 1 -
    r`: under a causal mask, early tokens have little work and late ones much, so every rank has the same. This is the
    layout that TransformerEngine expects of packed rows, and Megatron-Core's rotary embedding with it.

    Args:
        cu_seqlens: int32[documents + 1], rising from 0 to T; each document a multiple of `2 * cp_size` long unless
            `cp_size` is 1.
    """
    if cp_size == 1:
        return torch.arange(int(cu_seqlens[-1]))
    parts: list[Tensor] = []
    for start, end in pairwise(cu_seqlens.tolist()):
        piece = (end - start) // (2 * cp_size)
        pieces = (start + number * piece for number in (cp_rank, 2 * cp_size - 1 - cp_rank))
        parts.extend(torch.arange(first, first + piece) for first in pieces)
    return torch.cat(parts)


def lay_out_row(cu_seqlens: Tensor, cp_rank: int = 0, cp_size: int = 1) -> RowLayout:
    """Group the documents of a row by length so that padding stays below a quarter of the real tokens.

    Args:
        cu_seqlens: int32[documents + 1], rising from 0 to T.
        cp_rank: this rank among those that share the row.
        cp_size: their number.

    Worked example: cu_seqlens [0, 2, 5] on one rank gives one batch, longest document first, with queries and keys
    [[2, 3, 4], [0, 1, 1]]; flattened, row position 0 lies at place 3, so order is [3, 4, 0, 1, 2].
    """
    bounds = cu_seqlens.tolist()
    documents = sorted(((end - start, start) for start, end in pairwise(bounds) if end > start), reverse=True)
    groups: list[list[tuple[int, int]]] = []
    num_tokens = 0
    for length, start in documents:
        if not groups or groups[-1][0][0] * (len(groups[-1]) + 1) > _MAX_PADDING * (num_tokens + length):
            groups.append([])
            num_tokens = 0
        groups[-1].append((length, start))
        num_tokens += length
    gathered = torch.cat([local_places(cu_seqlens, rank, cp_size) for rank in range(cp_size)])
    return _layout_of_groups(groups, gathered, cp_rank, cp_size, cu_seqlens.device)


def _layout_of_groups(
    groups: list[list[tuple[int, int]]], gathered: Tensor, cp_rank: int, cp_size: int, device: torch.device
) -> RowLayout:
    """`gathered` int64[T] are the row's places in the order in which the ranks together hold them."""
    key_place = torch.empty_like(gathered)
    key_place[gathered] = torch.arange(len(gathered))
    num_local = len(gathered) // cp_size
    batches = []
    order = torch.empty(num_local, dtype=torch.int64)
    offset = 0
    for group in groups:
        lengths = torch.tensor([length for length, _ in group])
        starts = torch.tensor([start for _, start in group])
        keys = starts[:, None] + torch.minimum(torch.arange(int(lengths.max()))[None], lengths[:, None] - 1)
        # A rank holds the same share of every document, side by side, so its part of a document is a document too.
        counts = lengths // cp_size
        local = torch.arange(int(counts.max()))[None]
        queries = starts[:, None] // cp_size + torch.minimum(local, counts[:, None] - 1)
        real = (local < counts[:, None]).flatten().nonzero().squeeze(1)
        order[queries.flatten()[real]] = offset + real
        offset += queries.numel()
        mask = None
        if cp_size > 1:
            position = gathered[cp_rank * num_local :][queries] - starts[:, None]
            mask = (torch.arange(keys.shape[1])[None, None] <= position[:, :, None])[:, None].to(device)
        batches.append(DocumentBatch(queries=queries.to(device), keys=key_place[keys].to(device), mask=mask))
    return RowLayout(batches=batches, order=order.to(device))
