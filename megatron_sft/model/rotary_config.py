"""How a model's rotary embedding is scaled for long documents, read from a Hugging Face config.

transformers 4 writes `rope_theta` and `rope_scaling` ({"type" or "rope_type": kind, ...}), transformers 5 one
`rope_parameters` with both. What the fields mean: `modeling_rope_utils.py` of transformers 5; `rotary.py` has the
formulas. Plain Python: nothing in this module depends on torch.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from megatron_sft.errors import ConfigError
from megatron_sft.model.config_fields import flag, number, positive


@dataclass(frozen=True, kw_only=True)
class LinearScaling:
    """Every frequency divided by `factor`."""

    factor: float


@dataclass(frozen=True, kw_only=True)
class DynamicScaling:
    """Dynamic NTK: a larger base for documents longer than `max_position_embeddings`, and only for these."""

    factor: float


@dataclass(frozen=True, kw_only=True)
class Llama3Scaling:
    """Long wavelengths divided by `factor`, short ones kept, a linear passage between."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_position_embeddings: int
    """Tokens."""


@dataclass(frozen=True, kw_only=True)
class YarnScaling:
    """YaRN (arXiv 2309.00071): as Llama 3's with a passage linear in the dimension, and sharper attention."""

    factor: float
    original_max_position_embeddings: int
    """Tokens."""
    beta_fast: float
    """Dimensions that turn more often than this within the original length keep their frequency."""
    beta_slow: float
    """Those that turn less often have it divided by `factor`."""
    truncate: bool
    """Whether the passage begins and ends at whole dimensions."""
    attention_factor: float
    """By which rotated queries and keys are multiplied, each."""


RotaryScaling = LinearScaling | DynamicScaling | Llama3Scaling | YarnScaling
"""None stands for the plain rotary embedding."""

_PLAIN_FIELDS = {"rope_theta", "rope_type", "type", "partial_rotary_factor"}


def read_rotary(
    config: Mapping[str, Any], where: str, *, kinds: tuple[str, ...], default_base: float | None
) -> tuple[float, RotaryScaling | None]:
    """Base of the rotary frequencies and their scaling.

    Args:
        config: the `config.json`, in the spelling of transformers 4 or 5; where it has both, they must agree.
        where: the file, for messages.
        kinds: the scalings that the architecture has, by their `rope_type`; `default` is always there.
        default_base: base of a config that names none; None refuses such a config.

    Raises:
        ConfigError: for another kind or field, a value that is not one, and contradictions.
    """
    bases: dict[str, float] = {}
    scalings: dict[str, RotaryScaling | None] = {}
    for name in ("rope_scaling", "rope_parameters"):
        settings = config.get(name) or {}
        if not isinstance(settings, Mapping):
            raise ConfigError(f"{where}: {name} must be an object or null, found {settings!r}")
        if settings.get("rope_theta") is not None:
            bases[f"{name}.rope_theta"] = number(settings, "rope_theta", f"{where}: {name}")
        if settings:
            scalings[name] = _scaling(settings, config, where, name, kinds)
    if config.get("rope_theta") is not None:
        bases["rope_theta"] = number(config, "rope_theta", where)
    if not bases and default_base is not None:
        bases["default"] = default_base
    if not bases:
        raise ConfigError(f"{where}: neither rope_theta nor rope_parameters.rope_theta is set")
    if len(set(bases.values())) > 1:
        shown = ", ".join(f"{name}={value:g}" for name, value in sorted(bases.items()))
        raise ConfigError(f"{where}: contradicting rotary bases: {shown}; keep one of them")
    if len(set(scalings.values())) > 1:
        raise ConfigError(f"{where}: rope_scaling and rope_parameters contradict each other; keep one of them")
    return next(iter(bases.values())), next(iter(scalings.values()), None)


def _scaling(
    settings: Mapping[str, Any], config: Mapping[str, Any], where: str, name: str, kinds: tuple[str, ...]
) -> RotaryScaling | None:
    kind = settings.get("rope_type", settings.get("type", "default"))
    if settings.get("type", kind) != kind:
        raise ConfigError(f"{where}: {name} has rope_type={kind!r} and type={settings['type']!r}; keep one of them")
    if kind not in ("default", *kinds):
        raise ConfigError(
            f"{where}: {name} has rope_type {kind!r}, which is not supported for this architecture; supported are "
            f"default, {', '.join(kinds)}: set {name} to null if the scaling is not wanted"
        )
    if settings.get("partial_rotary_factor") not in (None, 1.0):
        raise ConfigError(
            f"{where}: {name}.partial_rotary_factor={settings['partial_rotary_factor']!r} is not supported; only "
            "whole heads are rotated: 1.0 or none"
        )
    read, fields = _KINDS[kind]
    extra = sorted(set(settings) - _PLAIN_FIELDS - fields)
    if extra:
        raise ConfigError(
            f"{where}: {name} of rope_type {kind!r} has fields that are not supported: {', '.join(extra)}; it may have "
            f"{', '.join(sorted(fields)) or 'none'}"
        )
    return read(settings, config, f"{where}: {name}")


def _plain(_settings: Mapping[str, Any], _config: Mapping[str, Any], _where: str) -> None:
    return None


def _linear(settings: Mapping[str, Any], _config: Mapping[str, Any], where: str) -> RotaryScaling:
    return LinearScaling(factor=number(settings, "factor", where))


def _dynamic(settings: Mapping[str, Any], _config: Mapping[str, Any], where: str) -> RotaryScaling:
    return DynamicScaling(factor=number(settings, "factor", where))


def _llama3(settings: Mapping[str, Any], config: Mapping[str, Any], where: str) -> RotaryScaling:
    low, high = (number(settings, name, where) for name in ("low_freq_factor", "high_freq_factor"))
    if low >= high:
        raise ConfigError(f"{where}: low_freq_factor={low:g} must be below high_freq_factor={high:g}")
    return Llama3Scaling(
        factor=number(settings, "factor", where),
        low_freq_factor=low,
        high_freq_factor=high,
        original_max_position_embeddings=_original_length(settings, config, where),
    )


def _yarn(settings: Mapping[str, Any], config: Mapping[str, Any], where: str) -> RotaryScaling:
    factor = number(settings, "factor", where)
    fast, slow = (
        number(settings, name, where) if settings.get(name) else default
        for name, default in (("beta_fast", 32.0), ("beta_slow", 1.0))
    )
    if slow > fast:
        raise ConfigError(f"{where}: beta_slow={slow:g} must not be above beta_fast={fast:g}")
    return YarnScaling(
        factor=factor,
        original_max_position_embeddings=_original_length(settings, config, where),
        beta_fast=fast,
        beta_slow=slow,
        truncate=flag(settings, "truncate", where, default=True),
        attention_factor=_attention_factor(settings, factor, where),
    )


def _attention_factor(settings: Mapping[str, Any], factor: float, where: str) -> float:
    """The one given, or 0.1 ln(factor) + 1; DeepSeek's `mscale` and `mscale_all_dim` weigh the logarithm."""
    if settings.get("attention_factor") is not None:
        return number(settings, "attention_factor", where)
    over, under = (
        number(settings, name, where) if settings.get(name) else None for name in ("mscale", "mscale_all_dim")
    )
    if over is None or under is None:
        over, under = 1.0, 0.0
    logarithm = max(0.0, math.log(factor))
    return (0.1 * over * logarithm + 1.0) / (0.1 * under * logarithm + 1.0)


def _original_length(settings: Mapping[str, Any], config: Mapping[str, Any], where: str) -> int:
    """Of the settings; without it `max_position_embeddings`, which then is the length before scaling."""
    name = "original_max_position_embeddings"
    if settings.get(name) is None:
        return positive(config, name if config.get(name) is not None else "max_position_embeddings", where)
    length = positive(settings, name, where)
    if config.get(name) not in (None, length):
        raise ConfigError(f"{where}: {name}={length}, but {config[name]!r} outside of it; keep one of them")
    return length


_Reader = Callable[[Mapping[str, Any], Mapping[str, Any], str], RotaryScaling | None]

_KINDS: Mapping[str, tuple[_Reader, set[str]]] = {
    "default": (_plain, set()),
    "linear": (_linear, {"factor"}),
    "dynamic": (_dynamic, {"factor"}),
    "llama3": (_llama3, {"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"}),
    "yarn": (
        _yarn,
        {
            "factor",
            "original_max_position_embeddings",
            "beta_fast",
            "beta_slow",
            "truncate",
            "attention_factor",
            "mscale",
            "mscale_all_dim",
        },
    ),
}

ROPE_TYPES = tuple(kind for kind in _KINDS if kind != "default")
"""Every scaling that there is a formula for."""
