"""The sum over pieces is kept in the main gradient's type."""

import pytest

pytest.importorskip("megatron.core")

import megatron_sft.model.lean_megatron  # noqa: F401

import torch

from megatron_sft.model.weight_gradient import TorchWeightGradient

pytestmark = pytest.mark.trainer


def test_many_small_pieces_are_not_rounded_away():
    inputs = torch.full((1, 2), 1.0, dtype=torch.bfloat16)
    gradients = torch.tensor([[2.0**-9, 1.0, 0.0]], dtype=torch.bfloat16)
    main_gradient = torch.zeros(3, 2)
    # In bf16, 1 + 2^-9 is 1 again.
    TorchWeightGradient.wgrad_gemm_accum_fp32(inputs, torch.ones_like(gradients), main_gradient)
    for _ in range(512):
        TorchWeightGradient.wgrad_gemm_accum_fp32(inputs, gradients, main_gradient)
    assert main_gradient.tolist() == [[2.0, 2.0], [513.0, 513.0], [1.0, 1.0]]
