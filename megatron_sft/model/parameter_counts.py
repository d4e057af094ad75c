"""Widths of a model's projections and the number of its parameters.

Plain Python: nothing in this module depends on torch.
"""

from megatron_sft.model.geometry import ModelGeometry


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
