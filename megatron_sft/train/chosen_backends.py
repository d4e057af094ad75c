"""What does the work of each part on this machine, and why: one line per part."""

import megatron_sft.model.lean_megatron  # noqa: F401

from megatron.core import optimizer as megatron_optimizer

from megatron_sft.model.device import Device
from megatron_sft.model.gpt import uses_transformer_engine
from megatron_sft.model.weight_gradient import has_apex_kernel
from megatron_sft.train.options import TrainOptions


def chosen_backends(options: TrainOptions, device: Device) -> dict[str, str]:
    """By part: attention, norm, linear layers, output layer, cross entropy, optimizer, FP8."""
    return {
        "attention": _attention(options, device),
        "norm": f"TransformerEngine{_FUSED}" if uses_transformer_engine(device) else f"torch ({_why_torch(device)})",
        "linear layers": _linear_layers(device),
        "output layer": _output_layer(),
        "cross entropy": f"Megatron-Core in float32, {options.loss_piece_tokens} tokens at a time",
        "optimizer": _optimizer(options),
        "FP8": _fp8(options),
    }


_FUSED = " (fused with the linear layer that follows)"


def _why_torch(device: Device) -> str:
    if device.is_cpu:
        return "no GPU"
    return "TransformerEngine is not installed, or Megatron-Core does not know its version"


def _attention(options: TrainOptions, device: Device) -> str:
    if not uses_transformer_engine(device):
        return f"torch, a document at a time ({_why_torch(device)})"
    which = "its own choice" if options.attention_backend == "auto" else options.attention_backend
    return f"TransformerEngine, packed rows (thd), {which}"


def _linear_layers(device: Device) -> str:
    if not uses_transformer_engine(device):
        return f"Megatron-Core on torch ({_why_torch(device)})"
    return "TransformerEngine, weight gradients added up inside the matrix product"


def _output_layer() -> str:
    if has_apex_kernel():
        return "Megatron-Core, weight gradients added up by Apex's kernel"
    return "Megatron-Core, weight gradients added up by torch (Apex's kernel is not installed)"


def _optimizer(options: TrainOptions) -> str:
    adam = megatron_optimizer.Adam.__module__.partition(".")[0]
    name = {"transformer_engine": "TransformerEngine's AdamW", "apex": "Apex's AdamW"}.get(adam, "torch's AdamW")
    if options.pure_bf16:
        name = "torch's AdamW on bf16 weights"
    place = ""
    if options.optimizer_cpu_offload:
        place = f", {options.optimizer_offload_fraction:.0%} of it in the host's memory"
    return f"{name}, state spread over data-parallel ranks{place}"


def _fp8(options: TrainOptions) -> str:
    if options.fp8_format == "none":
        return "off (--fp8-format)"
    weights = "FP8" if options.fp8_param_gather else "bf16"
    edges = ", first and last layer in bf16" if options.first_last_layers_bf16 else ""
    return f"{options.fp8_format}, {options.fp8_recipe} scaling, weights kept in {weights}{edges}"
