"""Megatron-Core GPT models from a geometry: TransformerEngine layers where installed, plain torch otherwise."""

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

import megatron_sft.model.lean_megatron  # noqa: F401

import torch
from megatron.core import parallel_state
from megatron.core.models.gpt import GPTModel
from megatron.core.models.gpt.gpt_layer_specs import (
    get_gpt_layer_local_spec,
    get_gpt_layer_with_transformer_engine_spec,
)
from megatron.core.tensor_parallel import layers
from megatron.core.tensor_parallel.random import model_parallel_cuda_manual_seed
from megatron.core.transformer.spec_utils import ModuleSpec
from megatron.core.transformer.transformer_block import TransformerBlockSubmodules, get_num_layers_to_build
from megatron.core.transformer.transformer_config import TransformerConfig

from megatron_sft.errors import ConfigError
from megatron_sft.model.attention import PackedAttention
from megatron_sft.model.device import Device
from megatron_sft.model.geometry import ModelGeometry
from megatron_sft.model.layout import ParallelLayout, uneven_split
from megatron_sft.model.norm import TorchRMSNorm
from megatron_sft.model.rotary import scale_rotary, softmax_scale

VOCAB_DIVISOR = 64
"""The padded vocabulary is a multiple of this and of tp, so its size is the same for every tp that divides this."""
_OPTION_OF = {
    "tp": "--tensor-model-parallel-size",
    "pp": "--pipeline-model-parallel-size",
    "pp x virtual stages": "--num-virtual-stages-per-pipeline-rank",
}


def initialize_model_parallel(layout: ParallelLayout, *, timeout_minutes: float = 30.0) -> None:
    """Create Megatron-Core's process groups. Needs the default process group."""
    layout.data_parallel_size(torch.distributed.get_world_size())
    parallel_state.initialize_model_parallel(
        tensor_model_parallel_size=layout.tensor_model_parallel_size,
        pipeline_model_parallel_size=layout.pipeline_model_parallel_size,
        context_parallel_size=layout.context_parallel_size,
        virtual_pipeline_model_parallel_size=_virtual_size(layout),
        distributed_timeout_minutes=timeout_minutes,
    )


@contextlib.contextmanager
def model_parallel(layout: ParallelLayout, *, timeout_minutes: float = 30.0) -> Iterator[None]:
    """Megatron-Core's process groups for the length of a block."""
    initialize_model_parallel(layout, timeout_minutes=timeout_minutes)
    try:
        yield
    finally:
        parallel_state.destroy_model_parallel()


def context_parallel_rank() -> int:
    """Place of this rank among those that share each row's tokens."""
    return int(parallel_state.get_context_parallel_rank())


def _virtual_size(layout: ParallelLayout) -> int | None:
    """Megatron-Core's spelling: None without an interleaved schedule."""
    return layout.virtual_stages if layout.virtual_stages > 1 else None


def data_parallel_rank_and_size() -> tuple[int, int]:
    """Place of this rank among those that share the data, and their number."""
    return parallel_state.get_data_parallel_rank(), parallel_state.get_data_parallel_world_size()


def has_transformer_engine() -> bool:
    """Whether Megatron-Core found a TransformerEngine that it can use.

    A version that it does not know counts as absent in silence there, hence its own word is asked.
    """
    from megatron.core.extensions import transformer_engine

    return bool(transformer_engine.HAVE_TE)


def transformer_config(
    geometry: ModelGeometry, layout: ParallelLayout, device: Device, *, dtype: torch.dtype, **options: Any
) -> TransformerConfig:
    """Megatron-Core's configuration of this model, in this layout, on this device.

    `options` are further `TransformerConfig` fields (recompute, FP8 and so on) and win over the defaults.

    Raises:
        ConfigError: when the geometry cannot be split this way.
    """
    _check_split(geometry, layout)
    on_gpu = not device.is_cpu
    values: dict[str, Any] = {
        "num_layers": geometry.num_layers,
        "hidden_size": geometry.hidden_size,
        "ffn_hidden_size": geometry.ffn_hidden_size,
        "num_attention_heads": geometry.num_attention_heads,
        "num_query_groups": geometry.num_query_groups,
        "kv_channels": geometry.kv_channels,
        "normalization": "RMSNorm",
        "layernorm_epsilon": geometry.norm_epsilon,
        "qk_layernorm": geometry.qk_layernorm,
        "softmax_scale": softmax_scale(geometry),
        "gated_linear_unit": True,
        "activation_func": torch.nn.functional.silu,
        "add_bias_linear": False,
        "add_qkv_bias": geometry.add_qkv_bias,
        "hidden_dropout": 0.0,
        "attention_dropout": 0.0,
        "init_method_std": geometry.hf_config.get("initializer_range", 0.02),
        "params_dtype": dtype,
        "pipeline_dtype": dtype,
        "bf16": dtype == torch.bfloat16,
        "tensor_model_parallel_size": layout.tensor_model_parallel_size,
        "pipeline_model_parallel_size": layout.pipeline_model_parallel_size,
        "context_parallel_size": layout.context_parallel_size,
        "virtual_pipeline_model_parallel_size": _virtual_size(layout),
        # The interleaved schedule sends both ways between the same two ranks: batched, messages would be mixed up.
        "overlap_p2p_comm": layout.virtual_stages > 1,
        "batch_p2p_comm": layout.virtual_stages == 1,
        "sequence_parallel": layout.sequence_parallel,
        # Pipeline stages tell each other how long a row is, where rows differ.
        "variable_seq_lengths": layout.pipeline_model_parallel_size > 1 and not layout.needs_equal_rows,
        # Unused without experts, but its default is refused together with variable lengths.
        "moe_token_dispatcher_type": "alltoall",
        # The loss carries its weights; nothing may divide gradients by micro-batches or ranks.
        "calculate_per_token_loss": True,
        "use_cpu_initialization": device.is_cpu,
        "bias_activation_fusion": on_gpu,
        "bias_dropout_fusion": on_gpu,
        "masked_softmax_fusion": False,
        "gradient_accumulation_fusion": False,
        "apply_rope_fusion": on_gpu and has_transformer_engine(),
        "cross_entropy_loss_fusion": False,
    }
    return TransformerConfig(**{**values, **options})


def build_chunks(
    config: TransformerConfig, geometry: ModelGeometry, device: Device, *, seed: int = 1234
) -> list[GPTModel]:
    """The parts of the model that this rank holds: one, or as many as it has virtual stages."""
    virtual_stages = config.virtual_pipeline_model_parallel_size
    stages: list[int | None] = [None] if virtual_stages is None else list(range(virtual_stages))
    return [build_gpt(config, geometry, device, seed=seed, vp_stage=stage) for stage in stages]


def build_gpt(
    config: TransformerConfig,
    geometry: ModelGeometry,
    device: Device,
    *,
    seed: int = 1234,
    vp_stage: int | None = None,
) -> GPTModel:
    """The part of the model that this rank holds, on `device`, with random weights drawn from `seed`.

    Logits stay split over tensor-parallel ranks (`parallel_output`). The model parallel groups must exist. `vp_stage`
    is the virtual stage, counted from 0, where the layout has such.
    """
    model_parallel_cuda_manual_seed(seed)
    with _output_layer_without_apex():
        model: GPTModel = GPTModel(
            config=config,
            transformer_layer_spec=block_spec(config, geometry, device, vp_stage),
            vocab_size=geometry.padded_vocab_size(config.tensor_model_parallel_size, VOCAB_DIVISOR),
            max_sequence_length=geometry.max_position_embeddings,
            pre_process=parallel_state.is_pipeline_first_stage(ignore_virtual=False, vp_stage=vp_stage),
            post_process=parallel_state.is_pipeline_last_stage(ignore_virtual=False, vp_stage=vp_stage),
            parallel_output=True,
            share_embeddings_and_output_weights=geometry.tie_word_embeddings,
            position_embedding_type="rope",
            rotary_base=geometry.rotary_base,
            vp_stage=vp_stage,
        )
    if geometry.rotary_scaling is not None:
        scale_rotary(model, geometry)
    if model.post_process:
        # The trainer turns it on, which has main gradients.
        model.output_layer.gradient_accumulation_fusion = False
    if uses_transformer_engine(device):
        # In their types already; a cast would turn FP8 weights back.
        return model.to(device=device.torch_device)
    # Norms without TransformerEngine ignore params_dtype, hence the cast.
    return model.to(device=device.torch_device, dtype=config.params_dtype)


@contextlib.contextmanager
def _output_layer_without_apex() -> Iterator[None]:
    """Megatron-Core refuses gradient_accumulation_fusion without Apex, which only its output layer would need."""
    with mock.patch.object(layers, "_grad_accum_fusion_available", True):
        yield


def uses_transformer_engine(device: Device) -> bool:
    """Whether layers on this device come from TransformerEngine."""
    return not device.is_cpu and has_transformer_engine()


def block_spec(
    config: TransformerConfig, geometry: ModelGeometry, device: Device, vp_stage: int | None = None
) -> ModuleSpec | TransformerBlockSubmodules:
    """The modules of this stage: TransformerEngine's on a GPU that has it, plain torch's otherwise."""
    if uses_transformer_engine(device):
        return get_gpt_layer_with_transformer_engine_spec(qk_layernorm=geometry.qk_layernorm)
    layer = get_gpt_layer_local_spec(qk_layernorm=geometry.qk_layernorm, normalization="RMSNorm")
    layer.submodules.input_layernorm = TorchRMSNorm
    layer.submodules.pre_mlp_layernorm = TorchRMSNorm
    attention = layer.submodules.self_attention.submodules
    attention.core_attention = PackedAttention
    if geometry.qk_layernorm:
        attention.q_layernorm = attention.k_layernorm = TorchRMSNorm
    num_layers = get_num_layers_to_build(config, vp_stage)
    return TransformerBlockSubmodules(layer_specs=[layer] * num_layers, layer_norm=TorchRMSNorm)


def _check_split(geometry: ModelGeometry, layout: ParallelLayout) -> None:
    found = uneven_split(geometry, layout)
    if found is not None:
        dimension, size, count, what = found
        raise ConfigError(
            f"{_OPTION_OF[dimension]}: {count} {what} cannot be split evenly into {size} parts; choose a divisor of "
            f"{count}"
        )
