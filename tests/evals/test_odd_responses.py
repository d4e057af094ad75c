"""Responses that are not what was asked for, through every grader: scored as docs/evaluation-protocol.md says."""

import time
from typing import Any

import pytest

from evals.grade import decide
from evals.graders.choice import ChoiceGrader
from evals.graders.countdown import CountdownGrader
from evals.graders.exact import ExactGrader
from evals.graders.form import FormGrader
from evals.graders.mathematics import MathGrader
from evals.graders.verdict import Grader
from evals.graders.yes_no import YesNoGrader

BOX = "\\boxed{%s}"
# Grader, item's answer, a right answer, what is behind it where there is no answer.
KINDS: dict[str, tuple[type[Any], Any, str, str]] = {
    "exact": (ExactGrader, "42", BOX % "42", "no_boxed_answer"),
    "math": (MathGrader, "42", BOX % "42", "no_boxed_answer"),
    "countdown": (CountdownGrader, {"numbers": [40, 2], "target": 42}, BOX % "40+2", "no_boxed_answer"),
    "choice": (ChoiceGrader, {"letter": "C", "num_options": 4}, BOX % "C", "no_letter"),
    "form": (FormGrader, {"form": "integer", "answer": "42"}, BOX % "42", "no_boxed_answer"),
    "yes_no": (YesNoGrader, "No", "No", "no_yes_or_no"),
}
HUNDRED_MB = 100_000_000


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Any:
    make, answer, right, nothing = KINDS[request.param]
    grader: Grader = make()
    yield grader, answer, right, nothing
    grader.close()


def graded(kind: Any, text: str, finish_reason: str = "stop", *, prompt_opens_think: bool = False) -> tuple[Any, str]:
    grader, answer, _, _ = kind
    generation = {"text": text, "finish_reason": finish_reason, "prompt_opens_think": prompt_opens_think}
    verdict = decide(generation, answer, grader)
    return verdict.correct, verdict.reason.split(":")[0]


def test_the_usual_forms(kind: Any) -> None:
    right = kind[2]
    assert graded(kind, f"<think>\nlet me see\n</think>\n\n{right}") == (True, "")
    assert graded(kind, f"So the answer is {right}") == (True, "")
    assert graded(kind, f"let me see\n</think>\n\n{right}", prompt_opens_think=True) == (True, "")


def test_an_answer_in_a_trace_that_does_not_end(kind: Any) -> None:
    right = kind[2]
    assert graded(kind, f"<think>\n{right}") == (False, "think_not_closed")
    assert graded(kind, right, prompt_opens_think=True) == (False, "think_not_closed")


def test_cut_at_the_limit(kind: Any) -> None:
    right = kind[2]
    assert graded(kind, f"<think>a</think> {right}", "length") == (False, "cut_off")
    assert graded(kind, "<think>a", "length") == (False, "cut_off")


def test_two_think_blocks(kind: Any) -> None:
    """What follows the last one counts."""
    right, nothing = kind[2:]
    assert graded(kind, f"<think>a</think> x <think>b</think> {right}") == (True, "")
    assert graded(kind, f"<think>a</think> {right} <think>b</think> done") == (False, nothing)


def test_empty(kind: Any) -> None:
    nothing = kind[3]
    for text in ("", " \n", "<think></think>", "<think>a</think>\n"):
        assert graded(kind, text) == (False, nothing), text


def test_another_script(kind: Any) -> None:
    right, nothing = kind[2:]
    assert graded(kind, f"<think>\u6211\u60f3\u4e00\u4e0b</think>\u7b54\u6848\u662f\uff1a{right}\u3002") == (True, "")
    arabic = "\u0627\u0644\u0625\u062c\u0627\u0628\u0629"
    assert graded(kind, f"<think>\u0646\u0641\u0643\u0631</think>{arabic} {right}") == (True, "")
    assert graded(kind, f"<think>\u0646\u0641\u0643\u0631</think>{arabic}") == (False, nothing)


@pytest.mark.slow
@pytest.mark.parametrize("filling", ["a", "{", "\\boxed{", "<think>", "9"])
def test_a_hundred_megabytes(kind: Any, filling: str) -> None:
    """It ends, within a minute on a slow machine, and the answer behind it counts where it can be told."""
    right = kind[2]
    text = filling * (HUNDRED_MB // len(filling))
    began = time.process_time()
    correct, reason = graded(kind, f"<think>a</think>{text} \n\n{right}")
    assert time.process_time() - began < 60
    if filling == "a":
        assert (correct, reason) == (True, "")
    if filling == "<think>":
        assert (correct, reason) == (False, "think_not_closed")
