"""One layer as fused kernels run it, in plain torch on a CPU: what autograd keeps of it for the backward pass.

Each function below keeps what the kernel of its name keeps; that is the only thing taken from them.
"""

from typing import Any

import torch
from torch import Tensor

from megatron_sft.model.geometry import ModelGeometry


class Norm(torch.autograd.Function):
    """RMSNorm keeps its input and one fp32 scale per vector."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        scale = torch.rsqrt(x.float().square().mean(-1) + 1e-6)
        ctx.save_for_backward(x, scale)
        return (x.float() * scale[..., None]).to(x.dtype)


class Rotate(torch.autograd.Function):
    """A rotation keeps angles only, which all layers share."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return -x


class Attention(torch.autograd.Function):
    """Fused attention keeps its three inputs, its result and one fp32 log-sum-exp per head and token."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        result, log_sum_exp = query.clone(), query.float().sum(-1)
        ctx.save_for_backward(query, key, value, result, log_sum_exp)
        return result


class GatedProduct(torch.autograd.Function):
    """The fused activation keeps gate and up in one tensor and computes the rest again."""

    @staticmethod
    def forward(ctx: Any, gate_up: Tensor) -> Tensor:
        ctx.save_for_backward(gate_up)
        gate, up = gate_up.chunk(2, dim=-1)
        return torch.nn.functional.silu(gate) * up


def bytes_kept(geometry: ModelGeometry, tokens: int) -> int:
    """Bytes of all storages that one layer's backward pass needs, weights aside; one tensor counts once."""
    heads, groups, width = geometry.num_attention_heads, geometry.num_query_groups, geometry.kv_channels
    hidden, ffn = geometry.hidden_size, geometry.ffn_hidden_size
    shapes = [(hidden, (heads + 2 * groups) * width), (heads * width, hidden), (hidden, 2 * ffn), (ffn, hidden)]
    project, out, gate_up, down = (torch.randn(shape, dtype=torch.bfloat16, requires_grad=True) for shape in shapes)
    weights = {matrix.untyped_storage().data_ptr() for matrix in (project, out, gate_up, down)}
    kept: dict[int, tuple[int, Tensor]] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            # The tensor itself is held too, or its address could be given out again.
            kept[storage.data_ptr()] = storage.nbytes(), tensor
        return tensor

    x = torch.randn(tokens, hidden, dtype=torch.bfloat16, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        projected = (Norm.apply(x) @ project).view(tokens, heads + 2 * groups, width)
        query, key, value = projected.split([heads, groups, groups], dim=1)
        result = Attention.apply(Rotate.apply(Norm.apply(query)), Rotate.apply(Norm.apply(key)), value)
        residual = x + result.reshape(tokens, heads * width) @ out
        residual + GatedProduct.apply(Norm.apply(residual) @ gate_up) @ down
    return sum(size for size, _ in kept.values())
