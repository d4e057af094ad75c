"""How many parameters a model has, and how many of them a rank holds."""

from dataclasses import dataclass

from megatron_sft.model.geometry import ModelGeometry
from megatron_sft.planning.layouts import Layout


@dataclass(frozen=True, kw_only=True)
class RankParameters:
    """Parameters of one rank, by what becomes of them."""

    matrices: int
    """Of the layers' projections: FP8 can hold these."""
    embeddings: int
    """Rows of the embedding and of the output layer."""
    vectors: int
    """Norm weights, which every tensor-parallel rank holds whole, and biases, which are split."""

    @property
    def total(self) -> int:
        """All of them."""
        return self.matrices + self.embeddings + self.vectors


def attention_width(geometry: ModelGeometry) -> int:
    """Width of all queries together; `hidden_size` in older models, but not in every Qwen3."""
    return geometry.num_attention_heads * geometry.kv_channels


def key_value_width(geometry: ModelGeometry) -> int:
    """Width of all keys together, and of all values."""
    return geometry.num_query_groups * geometry.kv_channels


def layer_matrices(geometry: ModelGeometry) -> int:
    """Entries of one layer's matrices: query, key, value, attention output, gate, up and down projection."""
    queries, keys = attention_width(geometry), key_value_width(geometry)
    return geometry.hidden_size * (2 * queries + 2 * keys + 3 * geometry.ffn_hidden_size)


def layer_biases(geometry: ModelGeometry) -> int:
    """Biases of one layer, over all tensor-parallel ranks."""
    return attention_width(geometry) + 2 * key_value_width(geometry) if geometry.add_qkv_bias else 0


def layer_norms(geometry: ModelGeometry) -> int:
    """Norm weights of one layer: before attention, before the feed-forward part, of queries and of keys."""
    return 2 * geometry.hidden_size + (2 * geometry.kv_channels if geometry.qk_layernorm else 0)


def num_parameters(geometry: ModelGeometry) -> int:
    """Parameters of the whole model as Hugging Face counts them: without padded rows, tied matrices once."""
    layer = layer_matrices(geometry) + layer_biases(geometry) + layer_norms(geometry)
    num_embeddings = 1 if geometry.tie_word_embeddings else 2
    embeddings = num_embeddings * geometry.vocab_size * geometry.hidden_size
    return geometry.num_layers * layer + embeddings + geometry.hidden_size


def rank_parameters(geometry: ModelGeometry, layout: Layout, stage: int) -> RankParameters:
    """Parameters of a rank of pipeline stage `stage`, counted from 0.

    The first stage holds the embedding, the last one the output layer and the final norm. Where these are tied but lie
    on different stages, each holds a copy.
    """
    layers = geometry.num_layers // layout.pp
    is_first, is_last = stage == 0, stage == layout.pp - 1
    output_is_own = is_last and (layout.pp > 1 or not geometry.tie_word_embeddings)
    rows = geometry.padded_vocab_size(layout.tp) // layout.tp
    return RankParameters(
        matrices=layers * layer_matrices(geometry) // layout.tp,
        embeddings=(is_first + output_is_own) * rows * geometry.hidden_size,
        vectors=layers * (layer_norms(geometry) + layer_biases(geometry) // layout.tp) + is_last * geometry.hidden_size,
    )
