"""The least time that an iteration on one GPU can take: operations over the peak, bytes over the bandwidth.

The sum of the arithmetic and that of the transfers: no iteration is faster than the larger of both, and none in which
nothing overlaps faster than their sum. What is counted is what the chosen recomputation executes, without padding;
attention's backward pass counts twice its forward pass, as in
`model/flops.py`, though kernels that compute the scores again do 2.5 times.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from megatron_sft.model import flops
from megatron_sft.model.geometry import ModelGeometry
from megatron_sft.model.parameter_counts import num_parameters
from megatron_sft.planning.layouts import Layout
from megatron_sft.planning.memory import MemoryOptions, Recompute, saved_per_token
from megatron_sft.planning.precisions import PRECISIONS, Precision

FP8_FACTOR = 2.0
"""Peak of FP8 matrix products over that of bf16."""


@dataclass(frozen=True, kw_only=True)
class Rates:
    """What the device does at most."""

    tflops: float
    """Dense bf16 products, 10^12 operations a second."""
    bandwidth: float
    """Of its memory, bytes a second, read and written together."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """Of an iteration."""

    name: str
    seconds: float
    amount: str
    """What was counted."""
    is_arithmetic: bool


def floor(
    geometry: ModelGeometry,
    lengths: Sequence[int],
    num_rows: int,
    rates: Rates,
    *,
    precision: Precision,
    recompute: Recompute,
) -> list[Part]:
    """The parts of an iteration over documents of these lengths in `num_rows` rows."""
    tokens, squares = sum(lengths), sum(length * length for length in lengths)
    layers = geometry.num_layers
    # A forward pass, and a backward pass of twice its operations; recomputation is a forward pass once more.
    passes = 3 + (recompute == "full")
    matrices = passes * tokens * layers * flops.layer_per_token(geometry)
    if recompute == "selective":
        matrices += tokens * layers * flops.mlp_per_token(geometry)
    # The loss computes the logits of all pieces again.
    output = 4 * tokens * flops.output_per_token(geometry)
    attention = passes * squares * layers * flops.attention_per_square(geometry)
    fp8 = FP8_FACTOR if precision == "fp8" else 1.0
    return [
        _products("layers' matrices" + (", FP8" if precision == "fp8" else ""), matrices, rates.tflops * fp8),
        _products("attention, real lengths", attention, rates.tflops),
        _products("output layer, logits twice", output, rates.tflops),
        *_transfers(geometry, tokens, num_rows, rates, precision, recompute),
    ]


def _transfers(
    geometry: ModelGeometry, tokens: int, num_rows: int, rates: Rates, precision: Precision, recompute: Recompute
) -> list[Part]:
    """What has to move through the device's memory, apart from the operands of products."""
    per, parameters = PRECISIONS[precision], num_parameters(geometry)
    options = MemoryOptions(
        precision=precision, recompute=recompute, seq_length=1, chunked_loss=True, sequence_parallel=False
    )
    kept = tokens * geometry.num_layers * saved_per_token(geometry, Layout(), options)
    # A row adds its gradients to the sum, which is read and written.
    gradients = num_rows * parameters * 2 * per.gradient
    # The norm reads the gradients; the update reads them again, reads and writes the states, and writes the weights.
    update = parameters * (2 * per.gradient + 2 * per.optimizer + per.other)
    return [
        _bytes("what the backward pass keeps, written and read", 2 * kept, rates),
        _bytes("gradients added up, a row at a time", gradients, rates),
        _bytes("gradient norm and AdamW", update, rates),
    ]


def _products(name: str, operations: float, tflops: float) -> Part:
    seconds, amount = operations / tflops / 1e12, f"{operations / 1e12:,.3f} TFLOP"
    return Part(name=name, seconds=seconds, amount=amount, is_arithmetic=True)


def _bytes(name: str, num_bytes: float, rates: Rates) -> Part:
    seconds, amount = num_bytes / rates.bandwidth, f"{num_bytes / 1e9:,.3f} GB"
    return Part(name=name, seconds=seconds, amount=amount, is_arithmetic=False)
