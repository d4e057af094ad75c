"""The shape of a model, read from a Hugging Face `config.json` in the spelling of transformers 4 or 5.

Plain Python: nothing in this module depends on torch.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from megatron_sft.errors import ConfigError
from megatron_sft.model.config_fields import flag, number, positive
from megatron_sft.model.rotary_config import ROPE_TYPES, DynamicScaling, RotaryScaling, read_rotary


@dataclass(frozen=True, kw_only=True)
class ModelGeometry:
    """Everything that decides a model's tensors and its forward pass. Equality ignores `hf_config`."""

    num_layers: int
    """Transformer layers."""
    hidden_size: int
    """Width of the residual stream."""
    ffn_hidden_size: int
    """Width of the gated feed-forward layer (of its gate and of its up projection each)."""
    num_attention_heads: int
    """Query heads per layer."""
    num_query_groups: int
    """Key-value heads per layer; each serves `num_attention_heads / num_query_groups` query heads."""
    kv_channels: int
    """Width of one head."""
    vocab_size: int
    """Rows of the embedding as in the Hugging Face model, before padding."""
    max_position_embeddings: int
    """Longest sequence the model was made for, tokens."""
    rotary_base: float
    """Base of the rotary frequencies (`rope_theta`)."""
    norm_epsilon: float
    """Epsilon of every RMSNorm."""
    qk_layernorm: bool
    """True when queries and keys are normalised per head."""
    tie_word_embeddings: bool
    """True when the output layer is the embedding."""
    add_qkv_bias: bool
    """True when the query, key and value projections have biases."""
    rotary_scaling: RotaryScaling | None = None
    """How the rotary frequencies are scaled for long documents; None for the plain ones."""
    hf_config: dict[str, Any] = field(repr=False, compare=False)
    """The `config.json` as read."""

    @classmethod
    def from_hf_config(cls, source: str | Path | Mapping[str, Any]) -> "ModelGeometry":
        """Read a geometry from a `config.json`, a folder that holds one, or its content.

        Raises:
            ConfigError: for a file that cannot be read, an architecture or feature that is not supported, and
                values that contradict each other; the message names file, field, value and remedy.
        """
        config, where = _read(source)
        architecture = _architecture(config, where)
        _refuse_unsupported(config, architecture, where)
        base, scaling = read_rotary(
            config, where, kinds=architecture.rope_types, default_base=architecture.default_rotary_base
        )
        geometry = cls(
            num_layers=positive(config, "num_hidden_layers", where),
            hidden_size=positive(config, "hidden_size", where),
            ffn_hidden_size=positive(config, "intermediate_size", where),
            num_attention_heads=positive(config, "num_attention_heads", where),
            num_query_groups=positive(config, _query_groups_field(config, architecture), where),
            kv_channels=_head_dim(config, architecture, where),
            vocab_size=positive(config, "vocab_size", where),
            max_position_embeddings=positive(config, "max_position_embeddings", where),
            rotary_base=base,
            rotary_scaling=scaling,
            norm_epsilon=number(config, "rms_norm_eps", where),
            qk_layernorm=architecture.qk_layernorm,
            tie_word_embeddings=flag(config, "tie_word_embeddings", where),
            add_qkv_bias=architecture.add_qkv_bias,
            hf_config=config,
        )
        _check_consistent(geometry, where)
        return geometry

    @property
    def model_type(self) -> str:
        """The architecture's Hugging Face name, such as `qwen3`."""
        return str(self.hf_config["model_type"])

    @property
    def longest_exact_document(self) -> int | None:
        """Tokens up to which the model's rotary embedding is the one computed here; None for any length.

        Dynamic NTK takes other frequencies for each length beyond `max_position_embeddings`.
        """
        return self.max_position_embeddings if isinstance(self.rotary_scaling, DynamicScaling) else None

    def padded_vocab_size(self, tp: int, divisible_by: int = 64) -> int:
        """Embedding rows in the Megatron model: the next multiple of both `divisible_by` and `tp`.

        Not of their product: so the size, and with it the checkpoint, is the same for every `tp` that divides
        `divisible_by`.
        """
        if tp < 1 or divisible_by < 1:
            raise ConfigError(f"vocabulary padding needs positive numbers, found tp={tp}, divisible_by={divisible_by}")
        multiple = math.lcm(tp, divisible_by)
        return -(-self.vocab_size // multiple) * multiple


@dataclass(frozen=True, kw_only=True)
class _Architecture:
    """What `model_type` alone decides. Defaults are those of transformers, or of the model's own code."""

    default_head_dim: int | None = None
    """`head_dim` of a config without one; None means `hidden_size / heads`."""
    default_rotary_base: float | None = None
    """`rope_theta` of a config without one; None means that it must be there."""
    heads_without_groups: bool = False
    """Whether a config without `num_key_value_heads` has as many as query heads."""
    qk_layernorm: bool = False
    add_qkv_bias: bool = False
    rope_types: tuple[str, ...] = ROPE_TYPES
    """Rotary scalings, beside none."""
    only: Mapping[str, tuple[Any, ...]]
    """Fields and the only values that are supported; the first is the one assumed when the field is absent."""


_COMMON: Mapping[str, tuple[Any, ...]] = {
    "hidden_act": ("silu",),
    "attention_dropout": (0.0,),
    "partial_rotary_factor": (None, 1.0),
    "quantization_config": (None,),
}
_ARCHITECTURES: Mapping[str, _Architecture] = {
    "qwen3": _Architecture(
        default_head_dim=128,
        qk_layernorm=True,
        only={**_COMMON, "attention_bias": (False,), "use_sliding_window": (False,)},
    ),
    "qwen2": _Architecture(add_qkv_bias=True, only={**_COMMON, "use_sliding_window": (False,)}),
    "llama": _Architecture(
        default_rotary_base=1e4,
        heads_without_groups=True,
        only={**_COMMON, "attention_bias": (False,), "mlp_bias": (False,)},
    ),
    "internlm2": _Architecture(
        default_rotary_base=1e4,
        heads_without_groups=True,
        rope_types=("linear", "dynamic"),
        only={**_COMMON, "bias": (False,)},
    ),
}


def _read(source: str | Path | Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """Return the config and the name under which messages refer to it."""
    if isinstance(source, Mapping):
        return dict(source), "model config"
    path = Path(source)
    if path.is_dir():
        path = path / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot read the model config ({error.strerror}); "
            "give a Hugging Face model folder or its config.json"
        ) from error
    except ValueError as error:
        raise ConfigError(f"{path}: not a JSON file ({error})") from error
    if not isinstance(config, dict):
        raise ConfigError(f"{path}: expected a JSON object, found {type(config).__name__}")
    return config, str(path)


def _architecture(config: Mapping[str, Any], where: str) -> _Architecture:
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or model_type not in _ARCHITECTURES:
        raise ConfigError(
            f"{where}: model_type {model_type!r} is not supported; supported are {', '.join(sorted(_ARCHITECTURES))}"
        )
    return _ARCHITECTURES[model_type]


def _refuse_unsupported(config: Mapping[str, Any], architecture: _Architecture, where: str) -> None:
    for name, allowed in architecture.only.items():
        value = config.get(name, allowed[0])
        if value not in allowed:
            shown = " or ".join(repr(item) for item in allowed)
            raise ConfigError(f"{where}: {name}={value!r} is not supported; the trainer can only do {name}={shown}")
    odd = sorted({str(kind) for kind in config.get("layer_types") or ()} - {"full_attention"})
    if odd:
        raise ConfigError(f"{where}: layer_types has {', '.join(odd)}; every layer must be full_attention")


def _query_groups_field(config: Mapping[str, Any], architecture: _Architecture) -> str:
    absent = config.get("num_key_value_heads") is None
    return "num_attention_heads" if absent and architecture.heads_without_groups else "num_key_value_heads"


def _head_dim(config: Mapping[str, Any], architecture: _Architecture, where: str) -> int:
    if config.get("head_dim") is not None:
        return positive(config, "head_dim", where)
    if architecture.default_head_dim is not None:
        return architecture.default_head_dim
    hidden_size, heads = (positive(config, name, where) for name in ("hidden_size", "num_attention_heads"))
    if hidden_size % heads:
        raise ConfigError(
            f"{where}: hidden_size={hidden_size} is not a multiple of num_attention_heads={heads}; set head_dim"
        )
    return hidden_size // heads


def _check_consistent(geometry: ModelGeometry, where: str) -> None:
    if geometry.num_attention_heads % geometry.num_query_groups:
        raise ConfigError(
            f"{where}: num_attention_heads={geometry.num_attention_heads} is not a multiple of "
            f"num_key_value_heads={geometry.num_query_groups}"
        )
    if geometry.kv_channels % 2:
        raise ConfigError(f"{where}: head_dim={geometry.kv_channels} is odd; rotary embeddings need an even width")
