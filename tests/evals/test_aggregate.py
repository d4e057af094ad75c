"""Figures against values worked out by hand."""

import math

import pytest

from evals.aggregate import standard_error
from evals.grade import GradedAnswer, decide
from evals.graders.exact import ExactGrader


def answers(outcomes: dict[str, list[bool | None]]) -> list[GradedAnswer]:
    return [
        GradedAnswer(item=item, correct=correct, reason="", num_tokens=1, finish_reason="stop", engine={})
        for item, values in outcomes.items()
        for correct in values
    ]


def test_standard_error_of_single_samples_is_the_binomial_one() -> None:
    graded = answers({str(n): [n < 3] for n in range(10)})
    assert standard_error(graded) == pytest.approx(math.sqrt(0.3 * 0.7 / 9))


def test_samples_of_one_item_count_as_one_cluster() -> None:
    once = answers({"a": [True], "b": [False]})
    four_times = answers({"a": [True] * 4, "b": [False] * 4})
    assert standard_error(four_times) == standard_error(once) == pytest.approx(0.5)
    assert standard_error(answers({"a": [True, False], "b": [False, True]})) == 0


def test_one_item_has_no_standard_error() -> None:
    assert standard_error(answers({"a": [True, False]})) is None


def test_undecided_counts_as_wrong() -> None:
    assert standard_error(answers({"a": [None], "b": [False]})) == 0


@pytest.mark.parametrize(
    ("text", "finish_reason", "correct", "reason"),
    [
        (r"<think>x</think>\boxed{5}", "stop", True, ""),
        (r"<think>x</think>\boxed{5}", "length", False, "cut_off"),
        (r"<think>so \boxed{5}", "stop", False, "think_not_closed"),
        (r"<think>so \boxed{5}</think> five", "stop", False, "no_boxed_answer"),
    ],
)
def test_what_is_cut_off_or_left_open_is_wrong(text: str, finish_reason: str, correct: bool, reason: str) -> None:
    generation = {"text": text, "finish_reason": finish_reason, "prompt_opens_think": False}
    verdict = decide(generation, "5", ExactGrader())
    assert (verdict.correct, verdict.reason) == (correct, reason)
