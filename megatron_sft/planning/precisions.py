"""Bytes per parameter and per activation in each precision that the trainer has."""

from dataclasses import dataclass
from typing import Literal

Precision = Literal["fp32", "bf16", "fp8", "precision-aware", "pure-bf16"]


@dataclass(frozen=True, kw_only=True)
class PrecisionBytes:
    """What is kept of each parameter, and of each activation."""

    matrix: int
    """Of an entry of the layers' matrices."""
    other: int
    """Of an entry of the embeddings, the output layer, norms and biases."""
    gradient: int
    """Of an entry of the buffer that gradients are summed and reduced in."""
    optimizer: int
    """Of an entry's optimizer state, which is spread over dp x cp ranks: main weight and both moments."""
    activation: int
    """Of an entry of an activation."""
    saved_input: int
    """Of an entry of what a matrix product keeps for its weight gradient."""
    logit: int
    """Of a logit at the highest point: as computed, its softmax in fp32, its gradient."""
    matrix_speedup: float = 1.0
    """By how much the layers' matrix products are faster than in bf16."""
    extra_copies: bool = False
    """Inputs of matrix products are kept as converted copies, beside what other operations keep."""


FP8_SPEEDUP = 1.5
"""Of the layers' matrix products over bf16, quantisation included. The peaks' ratio is 2; published whole-model gains
of 1.3 to 1.4 on Hopper correspond to about this much, since attention and the output layer stay in bf16."""

PRECISIONS: dict[Precision, PrecisionBytes] = {
    # Without a main copy: the optimizer updates the weights themselves.
    "fp32": PrecisionBytes(matrix=4, other=4, gradient=4, optimizer=8, activation=4, saved_input=4, logit=4),
    # 2 + 4 for weight and fp32 gradient, 4 + 4 + 4 for main weight and moments: Megatron's 6 + 12 / dp.
    "bf16": PrecisionBytes(matrix=2, other=2, gradient=4, optimizer=12, activation=2, saved_input=2, logit=8),
    # Hopper multiplies FP8 matrices in one orientation only, so each is kept with its transpose: 1 + 1.
    "fp8": PrecisionBytes(
        matrix=2, other=2, gradient=4, optimizer=12, activation=2, saved_input=1, logit=8,
        matrix_speedup=FP8_SPEEDUP, extra_copies=True,
    ),
    # bf16 gradients and moments, and of the fp32 main weight the 16 bits that the bf16 weight lacks: 2 + 2 + 2.
    "precision-aware": PrecisionBytes(
        matrix=2, other=2, gradient=2, optimizer=6, activation=2, saved_input=2, logit=8
    ),
    # The paper's: everything in bf16, no main weights.
    "pure-bf16": PrecisionBytes(matrix=2, other=2, gradient=2, optimizer=4, activation=2, saved_input=2, logit=8),
}  # fmt: skip
