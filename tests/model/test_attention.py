"""Packed attention equals attention over each document alone."""

from itertools import pairwise

import pytest
import torch

pytest.importorskip("megatron.core")

from megatron.core.packed_seq_params import PackedSeqParams
from megatron.core.transformer.enums import AttnMaskType
from megatron.core.transformer.transformer_config import TransformerConfig

from megatron_sft.errors import ConfigError
from megatron_sft.model.attention import PackedAttention, lay_out_row, local_places

pytestmark = pytest.mark.trainer


def make_attention(**options):
    values = {"num_layers": 1, "hidden_size": 32, "num_attention_heads": 4, "num_query_groups": 2, "kv_channels": 8}
    config = TransformerConfig(**{**values, "attention_dropout": 0.0, **options})
    return PackedAttention(config, layer_number=1, attn_mask_type=AttnMaskType.causal, attention_type="self")


def packed(bounds):
    cu_seqlens = torch.tensor(bounds, dtype=torch.int32)
    longest = int(cu_seqlens.diff().max())
    return PackedSeqParams(
        qkv_format="thd",
        cu_seqlens_q=cu_seqlens,
        cu_seqlens_kv=cu_seqlens,
        max_seqlen_q=longest,
        max_seqlen_kv=longest,
    )


def reference(query, key, value, bounds):
    """Softmax attention written out, one document and one head at a time, in float64."""
    output = torch.zeros_like(query, dtype=torch.float64)
    heads_per_group = query.shape[1] // key.shape[1]
    for start, end in pairwise(bounds):
        for head in range(query.shape[1]):
            q = query[start:end, head].double()
            k = key[start:end, head // heads_per_group].double()
            v = value[start:end, head // heads_per_group].double()
            scores = q @ k.T / query.shape[2] ** 0.5
            hidden = torch.ones_like(scores, dtype=torch.bool).triu(1)
            output[start:end, head] = scores.masked_fill(hidden, float("-inf")).softmax(-1) @ v
    return output.flatten(1)


@pytest.mark.parametrize("bounds", [[0, 7], [0, 3, 10, 11, 30], [0, 1, 2, 3], [0, 20, 24, 29, 61, 64]])
def test_equals_attention_written_out(bounds):
    torch.manual_seed(0)
    query, key, value = (torch.randn(bounds[-1], heads, 8) for heads in (4, 2, 2))
    output = make_attention()(query, key, value, None, packed_seq_params=packed(bounds))
    torch.testing.assert_close(output.double(), reference(query, key, value, bounds), atol=1e-6, rtol=1e-5)


def test_a_changed_document_leaves_the_others_bit_for_bit():
    torch.manual_seed(0)
    tensors = [torch.randn(30, heads, 8) for heads in (4, 2, 2)]
    changed = [tensor.clone() for tensor in tensors]
    for tensor in changed:
        tensor[10:20] = torch.randn_like(tensor[10:20])
    bounds = [0, 10, 20, 30]
    before = make_attention()(*tensors, None, packed_seq_params=packed(bounds))
    after = make_attention()(*changed, None, packed_seq_params=packed(bounds))
    assert torch.equal(before[:10], after[:10])
    assert torch.equal(before[20:], after[20:])
    assert not torch.equal(before[10:20], after[10:20])


def test_layout_of_the_docstring():
    layout = lay_out_row(torch.tensor([0, 2, 5], dtype=torch.int32))
    [batch] = layout.batches
    assert batch.queries.tolist() == batch.keys.tolist() == [[2, 3, 4], [0, 1, 1]]
    assert batch.mask is None
    assert layout.order.tolist() == [3, 4, 0, 1, 2]


def test_padding_stays_below_a_quarter():
    lengths = [1000, 990, 500, 60, 58, 57, 3, 1]
    bounds = [0, *torch.tensor(lengths).cumsum(0).tolist()]
    layout = lay_out_row(torch.tensor(bounds, dtype=torch.int32))
    assert len(layout.batches) > 1
    assert sum(batch.keys.numel() for batch in layout.batches) <= 1.25 * sum(lengths)
    assert layout.order.unique().numel() == sum(lengths)


@pytest.mark.parametrize("cp_size", [2, 3])
def test_the_ranks_of_a_row_together_hold_each_place_once(cp_size):
    cu_seqlens = torch.tensor([0, 12, 36, 48], dtype=torch.int32)
    held = [local_places(cu_seqlens, rank, cp_size) for rank in range(cp_size)]
    assert {len(places) for places in held} == {48 // cp_size}
    assert torch.cat(held).sort().values.tolist() == list(range(48))
    assert local_places(cu_seqlens, 0, cp_size)[:2].tolist() == [0, 1]
    # The last piece of a document goes with its first one.
    assert 11 in held[0] and 11 not in held[1]


@pytest.mark.parametrize("cp_size", [2, 4])
def test_ranks_that_share_a_row_attend_as_one(cp_size):
    torch.manual_seed(0)
    bounds = [0, 16, 24, 64, 72]
    query, key, value = (torch.randn(bounds[-1], heads, 8) for heads in (4, 2, 2))
    expected = reference(query, key, value, bounds)
    cu_seqlens = torch.tensor(bounds, dtype=torch.int32)
    everyone = torch.cat([local_places(cu_seqlens, rank, cp_size) for rank in range(cp_size)])
    for rank in range(cp_size):
        places = local_places(cu_seqlens, rank, cp_size)
        layout = lay_out_row(cu_seqlens, rank, cp_size)
        parts = []
        for batch in layout.batches:
            scores = torch.einsum(
                "nqhd,nkhd->nhqk",
                query[places][batch.queries].double(),
                key[everyone][batch.keys].double().repeat_interleave(2, 2),
            )
            seen = (scores / 8**0.5).masked_fill(~batch.mask, float("-inf")).softmax(-1)
            parts.append(
                torch.einsum("nhqk,nkhd->nqhd", seen, value[everyone][batch.keys].double().repeat_interleave(2, 2))
            )
        found = torch.cat([part.flatten(0, 1) for part in parts])[layout.order].flatten(1)
        torch.testing.assert_close(found, expected[places])


def test_dropout_is_refused():
    with pytest.raises(ConfigError, match="attention dropout"):
        make_attention(attention_dropout=0.1)
