"""Core attention over packed rows in plain torch, for machines without TransformerEngine.

Megatron-Core's own `DotProductAttention` refuses `packed_seq_params`. `PackedAttention` has the constructor and call
of `TEDotProductAttention`, so that it goes into the same place of the layer spec, and the trainer hands the same
packed batch to both.

Shapes: T tokens of a row, H query heads and G key-value groups of this tensor-parallel rank, D head dimension.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import megatron_sft.model.lean_megatron  # noqa: F401

import torch
from megatron.core.packed_seq_params import PackedSeqParams
from megatron.core.transformer.enums import AttnMaskType
from megatron.core.transformer.module import MegatronModule
from megatron.core.transformer.transformer_config import TransformerConfig
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from megatron_sft.errors import ConfigError

_MAX_PADDING = 1.25
"""A batch of documents may cost at most this factor of its real tokens in padding; beyond it a new batch begins."""


@dataclass(frozen=True, kw_only=True)
class RowLayout:
    """How the documents of one row are batched: documents of similar length are attended in one call.

    `gathers[k][n, i]` is the row position of token i of document n of batch k; places past a document's end repeat
    its last token. Under a causal mask no real token sees them, so no mask tensor is needed and the result is exact.
    """

    gathers: list[Tensor]
    """Per batch int64[N, L] row positions."""

    order: Tensor
    """int64[T]: where row position t lies in the concatenated, flattened batches."""


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
        if config.context_parallel_size > 1:
            raise ConfigError("context parallelism needs TransformerEngine: set --context-parallel-size 1")
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
            query: [T, H, D]; key and value: [T, G, D].
            attention_mask: must be None: documents and causality come from `packed_seq_params`.
            packed_seq_params: `cu_seqlens_q` int32[documents + 1], rising from 0 to T.

        Returns:
            [T, H * D]
        """
        assert packed_seq_params is not None, "PackedAttention takes packed rows only"
        assert attention_mask is None and attention_bias is None, "masks follow from cu_seqlens"
        grouped = key.shape[1] != query.shape[1]
        layout = _row_layout(packed_seq_params)
        attended = [
            scaled_dot_product_attention(
                _by_head(query, gather),
                _by_head(key, gather),
                _by_head(value, gather),
                is_causal=True,
                scale=self.softmax_scale,
                enable_gqa=grouped,
            )
            .transpose(1, 2)
            .flatten(0, 1)
            for gather in layout.gathers
        ]
        return torch.cat(attended).index_select(0, layout.order).flatten(1)


def _by_head(x: Tensor, gather: Tensor) -> Tensor:
    """[T, H, D] and int64[N, L] -> [N, H, L, D]."""
    return x.index_select(0, gather.flatten()).view(*gather.shape, *x.shape[1:]).transpose(1, 2)


def _row_layout(params: PackedSeqParams) -> RowLayout:
    """The layout of a row; computed once per row, as every layer needs the same one."""
    layout: RowLayout | None = getattr(params, "row_layout", None)
    if layout is None:
        layout = lay_out_row(params.cu_seqlens_q)
        params.row_layout = layout
    return layout


def lay_out_row(cu_seqlens: Tensor) -> RowLayout:
    """Group the documents of a row by length so that padding stays below a quarter of the real tokens.

    Args:
        cu_seqlens: int32[documents + 1], rising from 0 to T.

    Worked example: cu_seqlens [0, 2, 5] gives one batch, longest document first, with gather [[2, 3, 4], [0, 1, 1]];
    flattened, row position 0 lies at place 3, so order is [3, 4, 0, 1, 2].
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
    return _layout_of_groups(groups, bounds[-1], cu_seqlens.device)


def _layout_of_groups(groups: list[list[tuple[int, int]]], num_tokens: int, device: torch.device) -> RowLayout:
    gathers = []
    order = torch.empty(num_tokens, dtype=torch.int64)
    offset = 0
    for group in groups:
        lengths = torch.tensor([length for length, _ in group])
        starts = torch.tensor([start for _, start in group])
        places = torch.arange(int(lengths.max()))
        gather = starts[:, None] + torch.minimum(places[None], lengths[:, None] - 1)
        real = (places[None] < lengths[:, None]).flatten().nonzero().squeeze(1)
        order[gather.flatten()[real]] = offset + real
        offset += gather.numel()
        gathers.append(gather.to(device))
    return RowLayout(gathers=gathers, order=order.to(device))
