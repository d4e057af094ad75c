"""How many of a model's parameters a rank holds."""

from dataclasses import dataclass

from megatron_sft.model.geometry import ModelGeometry
from megatron_sft.model.parameter_counts import layer_biases, layer_matrices, layer_norms
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
