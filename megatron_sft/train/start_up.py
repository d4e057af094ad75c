"""What a run checks and says before its first iteration."""

import platform
import sys
from importlib.metadata import version
from typing import Any

import megatron_sft.model.lean_megatron  # noqa: F401

import torch
from megatron.core import parallel_state

from megatron_sft import backends
from megatron_sft.data.chat import ChatTokenizer
from megatron_sft.data.order import SampleOrder
from megatron_sft.data.sample_view import shows_colours
from megatron_sft.data.shards import ShardReader
from megatron_sft.errors import ConfigError
from megatron_sft.model.device import Device
from megatron_sft.model.geometry import ModelGeometry
from megatron_sft.train import precision
from megatron_sft.train.chosen_backends import chosen_backends
from megatron_sft.train.options import TrainOptions
from megatron_sft.train.peaks import peak_tflops
from megatron_sft.train.preview import describe_first_sample
from megatron_sft.train.sources import sources_of

_IDENTITY_OPTIONS = (
    "global_batch_size",
    "loss_weighting",
    "reference_ranks",
    "reference_group_size",
    "train_iters",
    "shuffle",
    "seed",
    "lr",
    "min_lr",
    "lr_warmup_iters",
    "lr_decay_style",
    "weight_decay",
    "decay_norms_and_biases",
    "adam_beta1",
    "adam_beta2",
    "adam_eps",
    "clip_grad",
    "bf16",
    "pure_bf16",
    "fp8_format",
    "fp8_recipe",
    "first_last_layers_bf16",
    "use_precision_aware_optimizer",
    "main_grads_dtype",
    "main_params_dtype",
    "exp_avg_dtype",
    "exp_avg_sq_dtype",
)
"""Options that decide the result. Layout, row capacity, save points and folders may change on resume."""


def identity(options: TrainOptions, geometry: ModelGeometry, reader: ShardReader) -> dict[str, Any]:
    """What a checkpoint must share with the run that goes on from it."""
    return {
        "data_fingerprint": reader.fingerprint,
        "tokenizer_fingerprint": reader.tokenizer_fingerprint,
        "geometry": repr(geometry),
        **{name: getattr(options, name) for name in _IDENTITY_OPTIONS},
    }


def check_lengths(reader: ShardReader, options: TrainOptions, geometry: ModelGeometry) -> None:
    """Refuse at once what would otherwise stop the run in the iteration that meets the longest sample.

    Raises:
        ConfigError: when a sample does not fit into a row, or is longer than the rotary embedding can do.
    """
    longest = int(reader.lengths.max())
    exact = geometry.longest_exact_document
    if exact is not None and longest > exact:
        raise ConfigError(
            f"{options.geometry_source}: rope_type 'dynamic' has other frequencies for each length beyond "
            f"max_position_embeddings={exact}, which the trainer cannot do, and sample {int(reader.lengths.argmax())} "
            f"of {reader.folder} has {longest} tokens: build the shards with --max-length {exact}"
        )
    if longest > options.seq_length:
        where = int(reader.lengths.argmax())
        raise ConfigError(
            f"--seq-length {options.seq_length}: sample {where} of {reader.folder} has {longest} tokens; pass at least "
            f"that, or build the shards with --max-length {options.seq_length}"
        )


def describe(
    options: TrainOptions, device: Device, geometry: ModelGeometry, reader: ShardReader, order: SampleOrder
) -> None:
    """Print one line per decision.

    Raises:
        EnvironmentProblem: when a backend is installed halfway, or PyPI's `apex` is in the place of NVIDIA Apex.
    """
    world = torch.distributed.get_world_size()
    dp = parallel_state.get_data_parallel_world_size()
    epochs = options.train_iters / order.steps_per_epoch
    installed_te = "not used on a CPU" if device.is_cpu else backends.transformer_engine_version()
    installed_apex = backends.apex_version()
    lines = {
        "python": f"{platform.python_version()}, torch {torch.__version__}, megatron-core {version('megatron-core')}",
        "device": f"{device.torch_device.type}, {world} processes over {device.backend}",
        "layout": _layout(options, dp),
        "loss": _weighting(options),
        "installed": f"TransformerEngine {installed_te or 'no'}, NVIDIA Apex {installed_apex or 'no'}",
        **chosen_backends(options, device),
        "precision": precision.describe(options),
        "recomputed": _recomputed(options),
        "model": str(geometry),
        "weights": str(options.init_from) if options.init_from else f"random, seed {options.seed}",
        "data": f"{reader.folder}: {reader.num_samples} samples, {int(reader.lengths.sum())} tokens, "
        f"{int(reader.trained_tokens.sum())} trained, fingerprint {reader.fingerprint[:12]}",
        "epoch": f"{order.steps_per_epoch} iterations of {order.global_batch_size} samples; {order.num_left_out} "
        f"samples left out at its end; {options.train_iters} iterations are {epochs:.2f} epochs",
        "order": f"shuffled, seed {options.seed}" if options.shuffle else "file order",
        "saves": ", ".join(str(i) for i in range(1, options.train_iters + 1) if options.saves_at(i)),
        "sources": _sources(reader),
        "peak": _peak(options, device),
    }
    for name, value in lines.items():
        print(f"{name:>16}: {value}", flush=True)


def _recomputed(options: TrainOptions) -> str:
    if options.recompute_granularity == "selective":
        return {"core_attn": "core attention", "mlp": "feed-forward part"}[options.recompute_modules]
    return {"none": "nothing", "full": "whole layers"}[options.recompute_granularity]


def show_first_sample(options: TrainOptions, reader: ShardReader, row_samples: list[int]) -> None:
    """Print the first sample of the first packed row with its mask; an empty row has none."""
    if row_samples:
        tokenizer = ChatTokenizer(str(options.assets_folder))
        lines = describe_first_sample(reader, row_samples, tokenizer, coloured=shows_colours(sys.stdout))
        for name, line in zip(("first sample", "boundary", "end", ""), lines, strict=True):
            print(f"{name:>16}{':' if name else ' '} {line}", flush=True)


def peak(options: TrainOptions, device: Device) -> float | None:
    """TFLOP/s that one device reaches at most; None where nobody knows."""
    if options.peak_tflops is not None or device.is_cpu:
        return options.peak_tflops
    return peak_tflops(torch.cuda.get_device_name(device.torch_device), fp8=options.fp8_format != "none")


def _peak(options: TrainOptions, device: Device) -> str:
    value = peak(options, device)
    if value is None:
        name = "a CPU" if device.is_cpu else torch.cuda.get_device_name(device.torch_device)
        return f"not known of {name}, so there is no MFU; --peak-tflops gives it"
    return f"{value:g} TFLOP/s a device, by {'--peak-tflops' if options.peak_tflops else 'its name'}"


def _sources(reader: ShardReader) -> str:
    sources = sources_of(reader.manifest)
    return f"{len(sources.names)}, each with a loss of its own" if sources else "one"


def _layout(options: TrainOptions, dp: int) -> str:
    layout = options.layout
    tp = f"tp {layout.tensor_model_parallel_size}{' with sequence parallelism' if layout.sequence_parallel else ''}"
    pp = f"pp {layout.pipeline_model_parallel_size}"
    if layout.virtual_stages > 1:
        pp += f" in {layout.virtual_stages} virtual stages"
    return f"{tp} x {pp} x cp {layout.context_parallel_size} x dp {dp}"


def _weighting(options: TrainOptions) -> str:
    if options.loss_weighting != "reference":
        return options.loss_weighting
    return f"reference: {options.reference_ranks} ranks, groups of {options.reference_group_size} samples"
