"""Typed fields of a Hugging Face `config.json`; what does not fit is refused with file, field and value.

Plain Python: nothing in this module depends on torch.
"""

import math
from collections.abc import Mapping
from typing import Any

from megatron_sft.errors import ConfigError


def positive(config: Mapping[str, Any], name: str, where: str) -> int:
    """An integer above 0.

    Raises:
        ConfigError: for anything else.
    """
    value = config.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigError(f"{where}: {name} must be a positive integer, found {_shown(config, name)}")
    return value


def number(config: Mapping[str, Any], name: str, where: str) -> float:
    """A finite number above 0.

    Raises:
        ConfigError: for anything else.
    """
    value = config.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool) or not (math.isfinite(value) and value > 0):
        raise ConfigError(f"{where}: {name} must be a positive number, found {_shown(config, name)}")
    return float(value)


def flag(config: Mapping[str, Any], name: str, where: str, *, default: bool = False) -> bool:
    """True or false; `default` when the field is absent.

    Raises:
        ConfigError: for anything else.
    """
    value = config.get(name, default)
    if not isinstance(value, bool):
        raise ConfigError(f"{where}: {name} must be true or false, found {value!r}")
    return value


def _shown(config: Mapping[str, Any], name: str) -> str:
    return repr(config[name]) if name in config else "nothing: the field is missing"
