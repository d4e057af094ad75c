"""Which numbers a run computes and keeps, in the terms of Megatron-Core's three configurations.

| kept as | weights | gradients | main weights | moments |
|---|---|---|---|---|
| fp32 | fp32 | fp32 | the weights | fp32 |
| bf16 | bf16 | fp32 | fp32 | fp32 |
| bf16, precision-aware optimizer | bf16 | fp32 or bf16 | fp32, as 16 bits beside the weight | fp32 to fp8 |
| pure bf16 | bf16 | bf16 | the weights | bf16 |

FP8 is about the matrix products of the layers: attention, norms, embedding and output layer stay in bf16.
"""

from typing import Any

import megatron_sft.model.lean_megatron  # noqa: F401

import torch
from megatron.core.transformer.enums import AttnBackend

from megatron_sft.errors import ConfigError, EnvironmentProblem
from megatron_sft.model.device import Device
from megatron_sft.model.gpt import uses_transformer_engine
from megatron_sft.train.options import TrainOptions

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "fp8": torch.uint8}


def check(options: TrainOptions, device: Device) -> None:
    """Refuse what this machine cannot do.

    Raises:
        EnvironmentProblem: for options that need a GPU or TransformerEngine.
        ConfigError: see `check_rows`.
    """
    needs_te = {
        "--fp8-format": options.fp8_format != "none",
        "--use-precision-aware-optimizer": options.use_precision_aware_optimizer,
        "--attention-backend": options.attention_backend != "auto",
    }
    for option, is_wanted in needs_te.items():
        if is_wanted and not uses_transformer_engine(device):
            raise EnvironmentProblem(
                f"{option} needs a GPU and TransformerEngine in a version that this Megatron-Core knows; the line "
                "'installed' of the start says what there is. Leave the option out, or see docs/training.md"
            )
    if options.optimizer_cpu_offload and device.is_cpu:
        raise EnvironmentProblem("--optimizer-cpu-offload has no effect on a CPU: leave it out")
    if options.bf16 and not device.is_cpu and not torch.cuda.is_bf16_supported():
        raise EnvironmentProblem("--bf16: this GPU has no bf16 arithmetic; leave it out")
    check_rows(options)


def check_rows(options: TrainOptions) -> None:
    """Refuse rows that FP8 cannot multiply.

    Raises:
        ConfigError: names the next length that it can.
    """
    multiple = options.layout.row_multiple_on_gpus
    if options.fp8_format != "none" and options.seq_length % multiple:
        raise ConfigError(
            f"--seq-length {options.seq_length}: with --fp8-format and this layout a multiple of {multiple} is needed; "
            f"{-(-options.seq_length // multiple) * multiple} is the next one"
        )


def weight_dtype(options: TrainOptions) -> torch.dtype:
    """Type of weights and activations."""
    return torch.bfloat16 if options.bf16 else torch.float32


def transformer_fields(options: TrainOptions, device: Device) -> dict[str, Any]:
    """Fields of `TransformerConfig`."""
    fields: dict[str, Any] = {"attention_backend": AttnBackend[options.attention_backend]}
    if options.fp8_format != "none":
        fields |= {
            "fp8": options.fp8_format,
            "fp8_recipe": options.fp8_recipe,
            "fp8_param": options.fp8_param_gather,
            "first_last_layers_bf16": options.first_last_layers_bf16,
        }
        if options.fp8_recipe == "delayed":
            # As in Megatron-LM's published FP8 runs: the largest of the last 1,024 iterations.
            fields |= {"fp8_amax_history_len": 1024, "fp8_amax_compute_algo": "max"}
    if uses_transformer_engine(device):
        # TransformerEngine's layers add weight gradients to the main gradients within the matrix product.
        fields["gradient_accumulation_fusion"] = True
    return fields


def data_parallel_fields(options: TrainOptions, device: Device) -> dict[str, Any]:
    """Fields of `DistributedDataParallelConfig`."""
    return {
        "use_distributed_optimizer": True,
        "grad_reduce_in_fp32": _gradient_dtype(options) == torch.float32,
        "overlap_grad_reduce": _overlaps(options.overlap_grad_reduce, device),
        "overlap_param_gather": _overlaps(options.overlap_param_gather, device),
        "fp8_param_gather": options.fp8_param_gather,
    }


def optimizer_fields(options: TrainOptions) -> dict[str, Any]:
    """Fields of `OptimizerConfig`."""
    fields: dict[str, Any] = {
        "use_distributed_optimizer": True,
        "bf16": options.bf16,
        "params_dtype": weight_dtype(options),
        "fp8_recipe": options.fp8_recipe if options.fp8_format != "none" else None,
    }
    if options.use_precision_aware_optimizer:
        names = ("main_grads_dtype", "main_params_dtype", "exp_avg_dtype", "exp_avg_sq_dtype")
        fields |= {"use_precision_aware_optimizer": True, **{name: _DTYPES[getattr(options, name)] for name in names}}
    if options.optimizer_cpu_offload:
        fields |= {
            "optimizer_cpu_offload": True,
            "optimizer_offload_fraction": options.optimizer_offload_fraction,
            "overlap_cpu_optimizer_d2h_h2d": True,
        }
    return fields


def describe(options: TrainOptions) -> str:
    """One line about weights, gradients and moments."""
    if not options.bf16:
        return "fp32"
    if options.pure_bf16:
        return "bf16 weights, gradients and moments, no main weights"
    if options.use_precision_aware_optimizer:
        return (
            f"bf16 weights, {options.main_params_dtype} main weights, {options.main_grads_dtype} gradients, moments in "
            f"{options.exp_avg_dtype} and {options.exp_avg_sq_dtype}"
        )
    return "bf16 weights, fp32 main weights and gradients"


def _gradient_dtype(options: TrainOptions) -> torch.dtype:
    if options.pure_bf16:
        return torch.bfloat16
    return _DTYPES[options.main_grads_dtype] if options.use_precision_aware_optimizer else torch.float32


def _overlaps(choice: bool | None, device: Device) -> bool:
    """By default only on GPUs, where communication runs beside computation."""
    return not device.is_cpu if choice is None else choice
