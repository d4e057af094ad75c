"""Figures against values worked out by hand."""

import json
import math
from typing import Any

import pytest

from evals.aggregate import NOTHING_EXTRACTED, Provenance, aggregate
from evals.grade import GradedAnswer, decide
from evals.graders.exact import ExactGrader
from tests.evals.made_up import make_answer, make_plan


def entry_of(graded: list[GradedAnswer], **options: Any) -> dict[str, Any]:
    plan = make_plan("hf/step-10", 10, items=len({answer.item for answer in graded}))
    return aggregate(plan, graded, "exact@1", Provenance(commit=None, seed=7), **options)


def answers(outcomes: dict[str, list[bool | None]]) -> list[GradedAnswer]:
    return [make_answer(item, correct) for item, values in outcomes.items() for correct in values]


def test_score_and_error_of_single_samples_are_the_binomial_ones() -> None:
    entry = entry_of(answers({str(n): [n < 3] for n in range(10)}))
    assert entry["score"] == 0.3
    assert entry["stderr"] == pytest.approx(math.sqrt(0.3 * 0.7 / 9))
    low, high = entry["interval"]
    assert 0 <= low < 0.3 < high < 0.8
    assert (entry["unit"], entry["num_unscored"], entry["score_by_subset"]) == ("share", 0, {})


def test_samples_of_one_item_count_as_one_cluster() -> None:
    once = entry_of(answers({"a": [True], "b": [False]}))
    four_times = entry_of(answers({"a": [True] * 4, "b": [False] * 4}))
    assert four_times["stderr"] == once["stderr"] == pytest.approx(0.5)
    assert four_times["interval"] == once["interval"]
    assert entry_of(answers({"a": [True, False], "b": [False, True]}))["stderr"] == 0


def test_one_item_has_no_standard_error() -> None:
    entry = entry_of(answers({"a": [True, False]}))
    assert (entry["score"], entry["stderr"], entry["interval"]) == (0.5, None, None)
    assert entry["accuracy_among_finished_stderr"] is None


def test_undecided_counts_as_wrong() -> None:
    entry = entry_of([make_answer("a", None, reason="undecided: time"), make_answer("b", True)])
    assert (entry["score"], entry["num_undecided"]) == (0.5, 1)
    assert entry["reasons"] == {"correct": 1, "undecided": 1}
    assert entry["share_extracted"] == 1.0


def test_cut_off_answers_are_apart() -> None:
    cut_off = {"reason": "cut_off", "finish_reason": "length", "num_tokens": 100}
    graded = [
        *(make_answer("a", True, num_tokens=20), make_answer("a", False, **cut_off)),
        *(make_answer("b", True, num_tokens=40), make_answer("b", True, num_tokens=30)),
        *(make_answer("c", False, num_tokens=50), make_answer("c", False, num_tokens=12, reason="no_boxed_answer")),
    ]
    entry = entry_of(graded)
    assert (entry["score"], entry["share_cut_off"]) == (0.5, pytest.approx(1 / 6))
    assert (entry["num_finished"], entry["accuracy_among_finished"]) == (5, pytest.approx(3 / 5))
    # Leaving out one item at a time: 2/4, 1/3, 3/3.
    left_out = [2 / 4, 1 / 3, 3 / 3]
    spread = sum((value - sum(left_out) / 3) ** 2 for value in left_out)
    assert entry["accuracy_among_finished_stderr"] == pytest.approx(math.sqrt(2 / 3 * spread))
    # Without the one cut off and the one without a box.
    assert (entry["share_extracted"], entry["accuracy_among_extracted"]) == (pytest.approx(4 / 6), 0.75)
    lengths = entry["length_tokens"]
    assert lengths["correct"] == {"mean": 30.0, "median": 30.0, "p90": pytest.approx(38.0), "num": 3}
    assert (lengths["wrong"]["median"], lengths["wrong"]["num"]) == (50.0, 3)
    assert (lengths["all"]["mean"], lengths["all"]["num"]) == (entry["mean_length_tokens"], 6)
    assert lengths["note"] == "right-censored at max_tokens = 100, where 1 of 6 answers were cut off"


def test_nothing_finished_has_no_accuracy_and_is_json() -> None:
    entry = entry_of([make_answer(item, False, reason="cut_off", finish_reason="length") for item in "ab"])
    assert (entry["num_finished"], entry["accuracy_among_finished"]) == (0, None)
    assert (entry["share_extracted"], entry["accuracy_among_extracted"]) == (0.0, None)
    assert entry["length_tokens"]["correct"] == {"mean": None, "median": None, "p90": None, "num": 0}
    assert json.loads(json.dumps(entry, allow_nan=False)) == entry


def test_scores_by_subset() -> None:
    graded = [
        *(make_answer("a", True, subset="algebra"), make_answer("b", False, subset="algebra")),
        *(make_answer("c", True, subset="geometry"),),
    ]
    entry = entry_of(graded)
    assert list(entry["score_by_subset"]) == ["algebra", "geometry"]
    algebra, geometry = entry["score_by_subset"].values()
    assert (algebra["score"], algebra["stderr"], algebra["num_items"]) == (0.5, 0.5, 2)
    assert (geometry["score"], geometry["stderr"], geometry["interval"]) == (1.0, None, None)


def test_points_replace_right_and_wrong() -> None:
    graded = [
        *(make_answer("a", True, figures={"score": -1.5}), make_answer("b", False, figures={"score": 0.5})),
        *(make_answer("c", False, figures={"score": 2.5}), make_answer("d", None, reason="judge_failed: no number")),
    ]
    entry = entry_of(graded)
    assert (entry["unit"], entry["score"], entry["num_unscored"]) == ("points", 0.5, 1)
    assert entry["stderr"] == pytest.approx(2 / math.sqrt(3))
    assert entry["accuracy_among_finished"] == 0.5


def test_ratios_sum_figures_over_the_task() -> None:
    graded = [
        make_answer("a", True, figures={"followed": 3, "asked": 3}),
        make_answer("b", False, figures={"followed": 0, "asked": 1}),
        make_answer("c", False, figures={"asked": 2}),
        make_answer("d", False, reason="cut_off", finish_reason="length"),
    ]
    found = entry_of(graded, ratios={"instructions": ("followed", "asked"), "absent": ("x", "y")})["ratios"]
    # Leaving out one item at a time: 0/3, 3/5, 3/4.
    left_out = [0, 3 / 5, 3 / 4]
    spread = sum((value - sum(left_out) / 3) ** 2 for value in left_out)
    assert found["instructions"] == {
        "value": 0.5,
        "stderr": pytest.approx(math.sqrt(2 / 3 * spread)),
        "num_answers": 3,
    }
    assert found["absent"] == {"value": None, "stderr": None, "num_answers": 0}


def test_loops_and_phrases_are_counted() -> None:
    graded = [
        make_answer("a", False, token_ids=[1, 2] * 100, num_tokens=200, finish_reason="length", text="Wait. " * 50),
        make_answer("b", True, token_ids=[1, 2, 3], text="<think>Let me check.</think>"),
        make_answer("c", True, text="ha" * 400),
    ]
    entry = entry_of(graded)
    assert entry["repetition_rate"] == pytest.approx(2 / 3)
    assert {name: rate["share"] for name, rate in entry["behaviours"].items()} == {
        "backtracking": pytest.approx(1 / 3),
        "verification": pytest.approx(1 / 3),
        "sub_goals": 0.0,
    }


def test_published_scores_and_old_fields_are_there() -> None:
    entry = entry_of(answers({"a": [True], "b": [True]}), published={"Qwen3-8B-Base": 76.8})
    assert entry["published"] == {"Qwen3-8B-Base": 76.8}
    assert (entry["model"], entry["name"], entry["iteration"], entry["seed"]) == ("hf/step-10", "step-10", 10, 7)
    assert entry["engine"] == {"vllm": "0.32.0"}
    assert entry["sampling"]["max_tokens"] == 100
    assert entry == entry_of(answers({"a": [True], "b": [True]}), published={"Qwen3-8B-Base": 76.8})


def test_reasons_that_mean_nothing_was_extracted_are_those_of_the_graders() -> None:
    grader = ExactGrader()
    assert grader.grade("five", "5").reason in NOTHING_EXTRACTED
    assert grader.grade(r"\boxed{6}", "5").reason.split(":")[0] not in NOTHING_EXTRACTED
    assert grader.grade(r"\boxed{6}", 5).reason.split(":")[0] in NOTHING_EXTRACTED


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
