"""The mapping table: pieces by hand for small cases, and no row lost or doubled for whole models."""

from typing import Any

import pytest

from megatron_sft.convert.mapping import Entry, Layout, Piece, architecture_map, entries
from megatron_sft.errors import ConversionError
from megatron_sft.model.geometry import ModelGeometry
from tests.convert.models import CONFIG

pytestmark = pytest.mark.trainer


def geometry_of(**config: Any) -> ModelGeometry:
    return ModelGeometry.from_hf_config({**CONFIG, **config})


def entry_named(geometry: ModelGeometry, name: str) -> Entry:
    (found,) = (entry for entry in entries(geometry) if name in entry.megatron_names)
    return found


def pieces(geometry: ModelGeometry, name: str, rank: int = 0, size: int = 1, padded: int = 128) -> list[Piece]:
    return list(entry_named(geometry, name).pieces(geometry, rank=rank, size=size, padded_vocab_size=padded))


def test_query_groups_are_interleaved() -> None:
    # Heads of width 8; group 0 has query heads 0 and 1, group 1 has 2 and 3.
    geometry = geometry_of(num_attention_heads=4, num_key_value_heads=2, head_dim=8)
    name = "decoder.layers.1.self_attention.linear_qkv.weight"
    group_0 = [Piece(0, 0, 16), Piece(1, 0, 8), Piece(2, 0, 8)]
    group_1 = [Piece(0, 16, 32), Piece(1, 8, 16), Piece(2, 8, 16)]
    assert pieces(geometry, name) == group_0 + group_1
    assert pieces(geometry, name, rank=0, size=2) == group_0
    assert pieces(geometry, name, rank=1, size=2) == group_1


def test_biases_are_arranged_as_the_weights() -> None:
    geometry = geometry_of(model_type="qwen2", num_attention_heads=4, num_key_value_heads=2, head_dim=8)
    weight, bias = (f"decoder.layers.1.self_attention.linear_qkv.{kind}" for kind in ("weight", "bias"))
    assert entry_named(geometry, bias).shape(2, 0) == (32,)
    for rank, size in ((0, 1), (0, 2), (1, 2)):
        assert pieces(geometry, bias, rank=rank, size=size) == pieces(geometry, weight, rank=rank, size=size)


def test_the_one_matrix_of_internlm2_has_megatrons_order() -> None:
    # 2 key-value heads of width 8 with 2 query heads each: 4 blocks of 8 rows for each.
    geometry = geometry_of(model_type="internlm2", num_attention_heads=4, num_key_value_heads=2, head_dim=8)
    name = "decoder.layers.0.self_attention.linear_qkv.weight"
    assert entry_named(geometry, name).hf == (("model.layers.0.attention.wqkv.weight", (64, 32)),)
    assert pieces(geometry, name) == [Piece(0, 0, 32), Piece(0, 32, 64)]
    assert pieces(geometry, name, rank=1, size=2) == [Piece(0, 32, 64)]
    with pytest.raises(ConversionError, match="2 cannot be split evenly over 4"):
        pieces(geometry, name, size=4)


def test_each_rank_has_its_gate_above_its_up_projection() -> None:
    geometry = geometry_of(intermediate_size=48)
    name = "decoder.layers.0.mlp.linear_fc1.weight"
    assert pieces(geometry, name) == [Piece(0, 0, 48), Piece(1, 0, 48)]
    assert pieces(geometry, name, rank=1, size=3) == [Piece(0, 16, 32), Piece(1, 16, 32)]


def test_padded_vocabulary() -> None:
    geometry = geometry_of(vocab_size=101)
    name = "embedding.word_embeddings.weight"
    assert pieces(geometry, name) == [Piece(0, 0, 101), Piece(None, 101, 128)]
    assert pieces(geometry, name, rank=0, size=2) == [Piece(0, 0, 64)]
    assert pieces(geometry, name, rank=1, size=2) == [Piece(0, 64, 101), Piece(None, 101, 128)]
    assert pieces(geometry, name, rank=3, size=4, padded=256) == [Piece(None, 192, 256)]
    assert pieces(geometry, name, padded=101) == [Piece(0, 0, 101)]


def test_columns_are_split_for_projections_back_into_the_residual() -> None:
    geometry = geometry_of(intermediate_size=48)
    entry = entry_named(geometry, "decoder.layers.3.mlp.linear_fc2.weight")
    assert entry.rule.layout is Layout.COLUMNS
    assert entry.shape(2, 0) == (32, 24)
    assert pieces(geometry, entry.megatron_names[0], rank=1, size=2) == [Piece(0, 24, 48)]


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", ["qwen3", "qwen2", "llama", "internlm2"])
def test_every_row_is_used_once(kind: str, size: int, tied: bool) -> None:
    geometry = geometry_of(model_type=kind, tie_word_embeddings=tied)
    seen = set()
    for entry in entries(geometry):
        dim = entry.rule.layout.dim
        taken: dict[int, list[int]] = {source: [] for source in range(len(entry.hf))}
        for rank in range(size):
            found = list(entry.pieces(geometry, rank=rank, size=size, padded_vocab_size=128))
            assert sum(piece.size for piece in found) == entry.shape(size, 128)[dim]
            if entry.rule.layout is Layout.REPLICATED and rank:
                continue
            for piece in found:
                if piece.source is not None:
                    taken[piece.source] += range(piece.start, piece.stop)
        for source, (name, shape) in enumerate(entry.hf):
            assert sorted(taken[source]) == list(range(shape[dim])), name
            seen.add(name)
    output = "output.weight" if kind == "internlm2" else "lm_head.weight"
    assert (output in seen) is not tied
    per_layer = {"qwen3": 11, "qwen2": 12, "llama": 9, "internlm2": 7}[kind]
    assert len(seen) == 2 + per_layer * 4 + (not tied)


def test_uneven_splits_are_refused() -> None:
    geometry = geometry_of()
    with pytest.raises(ConversionError, match=r"linear_qkv\.weight: 4 cannot be split evenly over 3"):
        pieces(geometry, "decoder.layers.0.self_attention.linear_qkv.weight", size=3)


def test_both_spellings_of_the_norms() -> None:
    names = entry_named(geometry_of(), "decoder.layers.2.input_layernorm.weight").megatron_names
    assert "decoder.layers.2.self_attention.linear_qkv.layer_norm_weight" in names


def test_tables_are_found_by_architecture() -> None:
    names = [architecture_map(geometry_of(model_type=kind)).hf_architecture for kind in ("qwen3", "qwen2", "llama")]
    assert names == ["Qwen3ForCausalLM", "Qwen2ForCausalLM", "LlamaForCausalLM"]
    assert architecture_map(geometry_of(model_type="internlm2")).hf_architecture == "InternLM2ForCausalLM"
    other = ModelGeometry(**{**geometry_of().__dict__, "hf_config": {"model_type": "gpt2"}})
    with pytest.raises(ConversionError, match="gpt2"):
        architecture_map(other)
