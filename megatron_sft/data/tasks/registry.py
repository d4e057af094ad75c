"""The families, by name. Callers get a fresh mapping and pass it on: there is no global registry."""

from collections.abc import Mapping

from megatron_sft.data.tasks.addition import ADDITION
from megatron_sft.data.tasks.code_requests import LOCKED_CODE, OPEN_CODE
from megatron_sft.data.tasks.comparison import COMPARISON
from megatron_sft.data.tasks.countdown import COUNTDOWN
from megatron_sft.data.tasks.counting import COUNTING
from megatron_sft.data.tasks.gym import gym_chain_sum, gym_countdown, gym_gcd
from megatron_sft.data.tasks.problem import Family
from megatron_sft.data.tasks.reversal import REVERSAL
from megatron_sft.data.tasks.sorting import SORTING
from megatron_sft.data.tasks.subtraction import SUBTRACTION
from megatron_sft.errors import ConfigError


def builtin_families() -> dict[str, Family]:
    """Return every family, keyed by name; those from reasoning-gym import it at their first draw."""
    families = [ADDITION, SUBTRACTION, COUNTDOWN, COMPARISON, SORTING, REVERSAL, COUNTING, LOCKED_CODE, OPEN_CODE]
    families += [gym_chain_sum(), gym_gcd(), gym_countdown()]
    return {family.name: family for family in families}


def select(families: Mapping[str, Family], names: list[str]) -> list[Family]:
    """Return the families named, in that order.

    Raises:
        ConfigError: for no name, an unknown name or one given twice.
    """
    unknown = [name for name in names if name not in families]
    if unknown:
        raise ConfigError(f"--tasks: unknown task {unknown[0]!r}; known are {', '.join(families)}")
    if not names or len(set(names)) != len(names):
        raise ConfigError(f"--tasks {','.join(names)!r}: name each task once, separated by commas")
    return [families[name] for name in names]
