"""Frequencies of scaled rotary embeddings, and the attention scale that goes with them.

Megatron-Core (0.16.1 and 0.19.2) has Llama 3's scaling with three of its four numbers fixed, YaRN without a given
attention factor, and TransformerEngine's fused rotation of packed rows drops the attention factor in silence. So the
frequencies are computed here, as transformers does (`modeling_rope_utils.py`, 5.19), and put into the model's plain
rotary embedding, which then knows of no scaling. That YaRN multiplies rotated queries and keys by a factor each is the
same as multiplying their products by its square, which goes into the attention's softmax scale: exact in every back
end.

Shapes: D head dimension.
"""

import math
from typing import Any

import torch
from torch import Tensor

from megatron_sft.model.geometry import ModelGeometry
from megatron_sft.model.rotary_config import LinearScaling, Llama3Scaling, YarnScaling


def scale_rotary(model: Any, geometry: ModelGeometry) -> None:
    """Give a GPTModel the frequencies of its geometry; to be called before its first forward pass."""
    embedding = model.rotary_pos_emb
    embedding.inv_freq = inverse_frequencies(geometry).to(embedding.inv_freq.device)


def softmax_scale(geometry: ModelGeometry) -> float | None:
    """What products of queries and keys are multiplied by; None for the usual 1 / sqrt(D)."""
    scaling = geometry.rotary_scaling
    if not isinstance(scaling, YarnScaling) or scaling.attention_factor == 1.0:
        return None
    return scaling.attention_factor**2 / math.sqrt(geometry.kv_channels)


def inverse_frequencies(geometry: ModelGeometry) -> Tensor:
    """Angles per token, float32[D / 2], highest frequency first.

    Those of dynamic NTK are the plain ones: right for documents up to `geometry.longest_exact_document`.
    """
    dim = geometry.kv_channels
    plain = 1.0 / (geometry.rotary_base ** (torch.arange(0, dim, 2, dtype=torch.float32) / dim))
    match geometry.rotary_scaling:
        case LinearScaling(factor=factor):
            return plain / factor
        case Llama3Scaling() as scaling:
            return _llama3(plain, scaling)
        case YarnScaling() as scaling:
            return _yarn(plain, geometry.rotary_base, scaling)
        case _:
            return plain


def _llama3(plain: Tensor, scaling: Llama3Scaling) -> Tensor:
    """Kept where the wavelength is below L / high, divided where above L / low (L: original length), else mixed.

    The share that is kept rises from 0 to 1 with L / wavelength between `low_freq_factor` and `high_freq_factor`.
    """
    turns = scaling.original_max_position_embeddings * plain / (2 * math.pi)
    kept = (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    return _mix(plain, scaling.factor, kept.clamp(0, 1))


def _yarn(plain: Tensor, base: float, scaling: YarnScaling) -> Tensor:
    """Kept in dimensions that turn more than `beta_fast` times, divided below `beta_slow`, else mixed.

    The dimension that turns r times within the original length L solves L base^(-2i / D) = 2 pi r.
    """
    dim = 2 * len(plain)

    def dimension(turns: float) -> float:
        return dim * math.log(scaling.original_max_position_embeddings / (turns * 2 * math.pi)) / (2 * math.log(base))

    first, last = dimension(scaling.beta_fast), dimension(scaling.beta_slow)
    if scaling.truncate:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, dim - 1)
    if first == last:
        last += 0.001
    divided = (torch.arange(len(plain), dtype=torch.float32) - first) / (last - first)
    return _mix(plain, scaling.factor, 1 - divided.clamp(0, 1))


def _mix(plain: Tensor, factor: float, kept: Tensor) -> Tensor:
    """`kept` of the plain frequencies, the rest divided by `factor`; all float32[D / 2]."""
    return plain * kept + plain / factor * (1 - kept)
