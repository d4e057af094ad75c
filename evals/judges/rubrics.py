"""The rubrics by the name that `Benchmark.rubric` has for them."""

from collections.abc import Callable

from evals.judges.alpaca_eval import AlpacaEvalRubric
from evals.judges.harmfulness import HarmfulnessRubric
from evals.judges.judge import Judge
from evals.judges.reward import RewardRubric
from evals.judges.rubric import Rubric
from evals.judges.truthfulqa import TruthfulQaRubric
from megatron_sft.errors import ConfigError

REWARDED = ("alpaca_eval",)
"""Rubrics that a reward model can stand in for."""


def builtin_rubrics() -> dict[str, Callable[[], Rubric]]:
    """Return what makes each rubric."""
    return {"harmfulness": HarmfulnessRubric, "truthfulqa": TruthfulQaRubric, "alpaca_eval": AlpacaEvalRubric}


def choose_rubric(name: str, judge: Judge) -> Rubric:
    """Return the rubric of a benchmark; a reward model has its own.

    Raises:
        ConfigError: for a reward model where words are asked for.
    """
    if not judge.gives_rewards:
        return builtin_rubrics()[name]()
    if name not in REWARDED:
        raise ConfigError(
            f"judge {judge.name} is a reward model, which cannot answer the questions of {name}: name another judge"
        )
    return RewardRubric()
