"""Number formats in Megatron-Core's terms, and what a CPU refuses."""

import dataclasses
from pathlib import Path

import pytest

pytest.importorskip("megatron.core")

import torch
from megatron.core.distributed import DistributedDataParallelConfig
from megatron.core.optimizer import OptimizerConfig
from megatron.core.transformer import TransformerConfig

from megatron_sft.errors import ConfigError, EnvironmentProblem
from megatron_sft.model.device import CPU, Device
from megatron_sft.train import precision
from megatron_sft.train.options import TrainOptions

pytestmark = pytest.mark.trainer

ON_CPU = Device(torch_device=CPU, backend="gloo")
# Only its name is asked for.
ON_GPU = Device(torch_device=torch.device("cuda", 0), backend="nccl")


def options(**changes) -> TrainOptions:
    required = {"data": Path("d"), "save": Path("s"), "model": Path("m"), "global_batch_size": 1, "train_iters": 2}
    return TrainOptions(**{**required, "seq_length": 128, "lr": 1.0, **changes})


def configs(chosen: TrainOptions, device: Device):
    """The three configurations, made by Megatron-Core itself."""
    transformer = TransformerConfig(
        num_layers=4,
        hidden_size=64,
        num_attention_heads=4,
        bf16=chosen.bf16,
        **precision.transformer_fields(chosen, device),
    )
    data_parallel = DistributedDataParallelConfig(**precision.data_parallel_fields(chosen, device))
    return transformer, data_parallel, OptimizerConfig(lr=1.0, **precision.optimizer_fields(chosen))


def test_fp32_is_the_default():
    transformer, data_parallel, optimizer = configs(options(), ON_CPU)
    assert transformer.fp8 is None and not transformer.gradient_accumulation_fusion
    assert data_parallel.grad_reduce_in_fp32 and not data_parallel.overlap_grad_reduce
    assert optimizer.params_dtype == torch.float32 and not optimizer.bf16


def test_bf16_keeps_gradients_in_fp32():
    _, data_parallel, optimizer = configs(options(bf16=True), ON_GPU)
    assert data_parallel.grad_reduce_in_fp32
    assert data_parallel.overlap_grad_reduce and data_parallel.overlap_param_gather
    assert optimizer.params_dtype == torch.bfloat16 and optimizer.bf16


def test_overlap_can_be_turned_off_on_gpus_and_on_on_a_cpu():
    off = precision.data_parallel_fields(options(overlap_grad_reduce=False), ON_GPU)
    assert not off["overlap_grad_reduce"] and off["overlap_param_gather"]
    assert precision.data_parallel_fields(options(overlap_param_gather=True), ON_CPU)["overlap_param_gather"]


def test_pure_bf16_reduces_gradients_in_bf16():
    _, data_parallel, _ = configs(options(bf16=True, pure_bf16=True), ON_GPU)
    assert not data_parallel.grad_reduce_in_fp32


def test_fp8_recipes_are_those_of_megatron_core():
    chosen = options(bf16=True, fp8_format="hybrid", fp8_param_gather=True, first_last_layers_bf16=True)
    transformer, data_parallel, optimizer = configs(chosen, ON_GPU)
    assert (transformer.fp8, transformer.fp8_recipe, transformer.fp8_param) == ("hybrid", "tensorwise", True)
    assert transformer.first_last_layers_bf16 and data_parallel.fp8_param_gather
    assert optimizer.fp8_recipe == "tensorwise"
    delayed, _, _ = configs(options(bf16=True, fp8_format="hybrid", fp8_recipe="delayed"), ON_GPU)
    assert (delayed.fp8_amax_history_len, delayed.fp8_amax_compute_algo) == (1024, "max")


def test_the_precision_aware_optimizer_has_its_types():
    types = {"main_grads_dtype": "bf16", "exp_avg_dtype": "bf16", "exp_avg_sq_dtype": "fp8"}
    chosen = options(bf16=True, use_precision_aware_optimizer=True, **types)
    assert not precision.data_parallel_fields(chosen, ON_GPU)["grad_reduce_in_fp32"]
    fields = precision.optimizer_fields(chosen)
    assert fields["use_precision_aware_optimizer"] and fields["main_params_dtype"] == torch.float32
    assert (fields["main_grads_dtype"], fields["exp_avg_dtype"]) == (torch.bfloat16, torch.bfloat16)
    assert fields["exp_avg_sq_dtype"] == torch.uint8, "what Megatron-Core calls fp8 here"
    assert set(fields) <= {field.name for field in dataclasses.fields(OptimizerConfig)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bf16": True, "fp8_format": "hybrid"}, "--fp8-format needs a GPU and TransformerEngine"),
        ({"bf16": True, "use_precision_aware_optimizer": True}, "--use-precision-aware-optimizer needs a GPU"),
        ({"attention_backend": "flash"}, "--attention-backend needs a GPU"),
        ({"optimizer_cpu_offload": True}, "--optimizer-cpu-offload has no effect on a CPU"),
    ],
)
def test_what_needs_a_gpu_is_refused_on_a_cpu(changes, message):
    with pytest.raises(EnvironmentProblem, match=message):
        precision.check(options(**changes), ON_CPU)


def test_each_precision_has_its_line():
    assert precision.describe(options()) == "fp32"
    assert "fp32 main weights" in precision.describe(options(bf16=True))
    assert "no main weights" in precision.describe(options(bf16=True, pure_bf16=True))
    aware = options(bf16=True, use_precision_aware_optimizer=True, exp_avg_dtype="fp8")
    assert precision.describe(aware).endswith("moments in fp8 and fp32")


def test_rows_of_fp8_need_a_multiple():
    precision.check_rows(options(seq_length=1000))
    precision.check_rows(options(bf16=True, fp8_format="hybrid", seq_length=1024))
    with pytest.raises(ConfigError, match=r"--seq-length 1000: .* a multiple of 128 .*; 1024 is the next one"):
        precision.check_rows(options(bf16=True, fp8_format="hybrid", seq_length=1000))
