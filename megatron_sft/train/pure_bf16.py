"""AdamW on the bf16 weights themselves: no fp32 copy, gradients and both moments in bf16.

This is what the trainer of arXiv 2604.06628 does (PyTorch's AdamW on a bf16 model). Small updates are rounded away, so
it is a recipe of its own and not a cheaper way to the same result.

Megatron-Core keeps fp32 main weights for all bf16 weights. It has another kind of weight, which its optimizer updates
in place: fp32 ones. Here bf16 weights are passed off as such while the shards are made, and gradients keep their type.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from unittest import mock

import megatron_sft.model.lean_megatron  # noqa: F401

import torch
from megatron.core import optimizer as megatron_optimizer
from megatron.core.optimizer import OptimizerConfig
from megatron.core.optimizer.distrib_optimizer import DistributedOptimizer
from torch.nn.utils import clip_grads_with_norm_


class PureBf16Optimizer(DistributedOptimizer):  # type: ignore[misc]
    """Megatron-Core's distributed optimizer, with each rank's share of the bf16 weights updated in place."""

    def __init__(self, adam: torch.optim.Optimizer, config: OptimizerConfig, *args: Any, **kwargs: Any) -> None:
        """See `DistributedOptimizer`; `config.clip_grad` is seen to here: Megatron-Core clips fp32 gradients only."""
        self._max_norm = config.clip_grad
        tensor_type = torch.Tensor.type

        def type_in_place(tensor: torch.Tensor, dtype: Any = None, *rest: Any, **options: Any) -> Any:
            if dtype is None and tensor.dtype == torch.bfloat16:
                return "torch.cuda.FloatTensor"
            return tensor_type(tensor, dtype, *rest, **options)

        with mock.patch.object(torch.Tensor, "type", type_in_place):
            super().__init__(adam, replace(config, clip_grad=0.0), *args, **kwargs)

    def step_with_ready_grads(self) -> bool:
        """Clip and update."""
        if self._max_norm > 0:
            clip_grads_with_norm_(self.get_parameters(), self._max_norm, torch.tensor(float(self.get_grad_norm())))
        return bool(super().step_with_ready_grads())

    def get_grads_for_grad_norm(self, *group: str) -> list[torch.Tensor]:
        """The gradients whose norm is taken."""
        return _summable(super().get_grads_for_grad_norm(*group))

    def get_main_grads_for_grad_norm(self) -> list[torch.Tensor]:
        """The same by its name in megatron-core 0.16."""
        return _summable(super().get_main_grads_for_grad_norm())

    def _copy_model_grads_to_main_grads(self) -> None:
        """Give each shard its part of the gradient buffer, without a copy in fp32."""
        for weights, shards in zip(self.model_fp32_groups, self.shard_fp32_groups, strict=True):
            for weight, shard in zip(weights, shards, strict=True):
                part = self._get_model_param_range_map(weight)["param"]
                shard.grad = weight.main_grad.view(-1)[part.start : part.end].to(shard.dtype)


def _summable(gradients: list[torch.Tensor]) -> list[torch.Tensor]:
    """On a CPU in fp32: only the kernels for GPUs add up the squares of bf16 numbers in it."""
    return [gradient.float() if gradient.is_cpu else gradient for gradient in gradients]


@contextlib.contextmanager
def pure_bf16() -> Iterator[None]:
    """While `get_megatron_optimizer` runs: it makes this optimizer, with PyTorch's AdamW in it on every device."""
    with (
        mock.patch.object(megatron_optimizer, "DistributedOptimizer", PureBf16Optimizer),
        mock.patch.object(megatron_optimizer, "USING_PYTORCH_OPTIMIZER", True),
    ):
        yield
