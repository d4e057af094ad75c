"""The rubrics by the name that `Benchmark.rubric` has for them."""

from collections.abc import Callable

from evals.judges.alpaca_eval import AlpacaEvalRubric
from evals.judges.harmfulness import HarmfulnessRubric
from evals.judges.rubric import Rubric
from evals.judges.truthfulqa import TruthfulQaRubric


def builtin_rubrics() -> dict[str, Callable[[], Rubric]]:
    """Return what makes each rubric."""
    return {"harmfulness": HarmfulnessRubric, "truthfulqa": TruthfulQaRubric, "alpaca_eval": AlpacaEvalRubric}
