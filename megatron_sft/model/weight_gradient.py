"""Adding the output layer's weight gradient to the main gradient, for machines without Apex.

The loss goes through the output layer a piece of the row at a time, so its weight gradient is a sum of pieces. Left to
autograd, a bf16 weight gets this sum in bf16, rounded once for each piece. Megatron-Core's linear layer can add each
product to the fp32 main gradient instead, by a kernel that it takes from Apex by name; where there is none, this does.
"""

import importlib.util

import megatron_sft.model.lean_megatron  # noqa: F401

from megatron.core.tensor_parallel import layers
from torch import Tensor

_NAME = "fused_weight_gradient_mlp_cuda"


def has_apex_kernel() -> bool:
    """Whether Apex's kernel is there, which adds inside the matrix product. TransformerEngine's layers need none."""
    return importlib.util.find_spec(_NAME) is not None


class TorchWeightGradient:
    """Stands where Megatron-Core looks for Apex's extension."""

    @staticmethod
    def wgrad_gemm_accum_fp32(inputs: Tensor, output_gradients: Tensor, main_gradient: Tensor) -> None:
        """Add a piece's weight gradient.

        Args:
            inputs: [S, H] what went into the layer.
            output_gradients: [S, V / tp].
            main_gradient: [V / tp, H].
        """
        main_gradient.add_(output_gradients.t().matmul(inputs))

    wgrad_gemm_accum_fp16 = wgrad_gemm_accum_fp32


def add_to_main_gradient(output_layer: layers.ColumnParallelLinear) -> None:
    """From now on the layer adds its weight gradient to the main gradient, which the data-parallel wrapper gives it."""
    if not has_apex_kernel():
        setattr(layers, _NAME, TorchWeightGradient)
    output_layer.gradient_accumulation_fusion = True
