"""The L2 norm of all weights, each counted once."""

from collections.abc import Iterable

import megatron_sft.model.lean_megatron  # noqa: F401

import torch
from megatron.core import parallel_state
from megatron.core.tensor_parallel import param_is_not_tensor_parallel_duplicate
from megatron.core.transformer.module import param_is_not_shared
from torch import Tensor

_VOCABULARY = ("word_embeddings.weight", "output_layer.weight")
"""Matrices whose rows are split over tensor-parallel ranks and padded at the end."""


def parameter_norm(chunks: Iterable[torch.nn.Module], vocab_size: int) -> float:
    """Global L2 norm of the weights, those of the Hugging Face model: collective over the ranks that share a model.

    Norm weights, which every tensor-parallel rank holds, count once; so does a tied matrix, of which the last pipeline
    stage holds a copy; rows that pad the vocabulary do not count.

    Args:
        chunks: the parts of the model that this rank holds.
        vocab_size: entries of the vocabulary without padding.
    """
    norms = [
        torch.linalg.vector_norm(_own_values(name, parameter, vocab_size), dtype=torch.float32)
        for chunk in chunks
        for name, parameter in chunk.named_parameters()
        if param_is_not_shared(parameter) and param_is_not_tensor_parallel_duplicate(parameter)
    ]
    # Every rank holds a share of some matrix.
    squares = torch.stack(norms).double().square().sum()
    torch.distributed.all_reduce(squares, group=parallel_state.get_model_parallel_group())
    return float(squares.sqrt())


def _own_values(name: str, parameter: Tensor, vocab_size: int) -> Tensor:
    values = parameter.detach()
    if type(values).__module__.startswith("transformer_engine"):
        values = values.dequantize()
    if name.endswith(_VOCABULARY):
        rows = len(values)
        values = values[: max(0, vocab_size - parallel_state.get_tensor_model_parallel_rank() * rows)]
    return values
