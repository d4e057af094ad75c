"""Floating-point operations of an iteration, with the attention cost of the real document lengths.

Counted as Megatron counts them: a product of an m x n with an n x k matrix takes 2 m n k operations, causal attention
half of the full square, and a backward pass twice its forward pass. Norms, rotary embeddings, activations and the
softmax are left out. Legend: L layers, h hidden size, q width of all queries, k width of all keys, f ffn size, V
vocabulary, n tokens of a document.
"""

from collections.abc import Iterable

from megatron_sft.model.geometry import ModelGeometry
from megatron_sft.model.parameter_counts import attention_width, layer_matrices


def layer_per_token(geometry: ModelGeometry) -> int:
    """One layer's matrices, forward: 2 (h q + 2 h k + q h + 3 h f) a token."""
    return 2 * layer_matrices(geometry)


def mlp_per_token(geometry: ModelGeometry) -> int:
    """One layer's feed-forward part, forward: 6 h f a token."""
    return 6 * geometry.hidden_size * geometry.ffn_hidden_size


def attention_per_square(geometry: ModelGeometry) -> int:
    """One layer's causal attention, forward: 2 q n^2 for a document, q n^2 for scores and for their use each."""
    return 2 * attention_width(geometry)


def output_per_token(geometry: ModelGeometry) -> int:
    """The output layer, forward: 2 h V a token, over the vocabulary without padding."""
    return 2 * geometry.hidden_size * geometry.vocab_size


def model_flops(geometry: ModelGeometry, lengths: Iterable[int]) -> int:
    """Operations that training on documents of these lengths needs, forward and backward.

    Recomputation and padding are not in it, so that MFU can only fall by them:
    MFU = model_flops / (step time x GPUs x peak).
    """
    tokens = squares = 0
    for length in lengths:
        tokens += length
        squares += length * length
    per_token = geometry.num_layers * layer_per_token(geometry) + output_per_token(geometry)
    return 3 * (tokens * per_token + squares * geometry.num_layers * attention_per_square(geometry))
