"""The graders by name, and which one a task gets."""

from collections.abc import Callable, Mapping

from evals.graders.choice import ChoiceGrader, GpqaPaperGrader, MmluProPaperGrader
from evals.graders.code import CodeGrader, CodePaperGrader
from evals.graders.code_request import CodeRequestGrader
from evals.graders.countdown import CountdownGrader
from evals.graders.exact import ExactGrader
from evals.graders.form import FormGrader
from evals.graders.ifeval.grader import IfevalGrader
from evals.graders.mathematics import MathGrader, MathPaperGrader
from evals.graders.verdict import Grader
from evals.graders.yes_no import YesNoGrader
from evals.items import Item
from megatron_sft.data.tasks.registry import builtin_families
from megatron_sft.errors import ConfigError


def builtin_graders() -> dict[str, Callable[[], Grader]]:
    """Return what makes each grader."""
    return {
        "exact": ExactGrader,
        "countdown": CountdownGrader,
        "math": MathGrader,
        "math_paper": MathPaperGrader,
        "choice": ChoiceGrader,
        "choice_gpqa_paper": GpqaPaperGrader,
        "choice_mmlu_pro_paper": MmluProPaperGrader,
        "yes_no": YesNoGrader,
        "ifeval": IfevalGrader,
        "form": FormGrader,
        "code_request": CodeRequestGrader,
        "code": CodeGrader,
        "code_paper": CodePaperGrader,
    }


SEVERAL_AT_A_TIME = frozenset(("code", "code_paper"))
"""Graders that wait for programs; several threads may use one."""
JUDGE = "judge"
"""In the place of a grader's name: a judge decides."""


def choose_grader(task: str, items: list[Item], choices: Mapping[str, str]) -> str:
    """Return the name of a task's grader: the chosen one, else the one that fits its answers.

    Raises:
        ConfigError: for a grader that does not exist.
    """
    known = builtin_graders()
    if task in choices:
        if choices[task] not in known:
            raise ConfigError(f"--graders: no grader {choices[task]!r}; known are {', '.join(known)}")
        return choices[task]
    if isinstance(items[0].answer, dict):
        return "countdown"
    return "exact" if task in builtin_families() else "math"
