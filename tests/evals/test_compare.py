"""Which models are compared with which, and what a comparison says."""

import json
from pathlib import Path

import pytest

from evals.compare import GradedPlan, base_of, compare, predecessor_of
from tests.evals.made_up import make_answer, make_plan


def run_of(path: str, iteration: int | None, outcomes: str, *, task: str = "addition", **sampling: float) -> GradedPlan:
    """Answers to items 0, 1, ...: `1` is right, `0` wrong."""
    graded = [make_answer(str(n), outcome == "1") for n, outcome in enumerate(outcomes)]
    return GradedPlan(plan=make_plan(path, iteration, task=task, **sampling), graded=graded, grader="exact@1")


def test_each_model_is_compared_with_base_and_predecessor() -> None:
    runs = [
        run_of("hf/step-40", 40, "1111"),
        run_of("base", 0, "1000"),
        run_of("hf/step-10", 10, "0011"),
        run_of("teacher", None, "1110"),
    ]
    found = compare(runs, seed=1)
    assert [(entry["name"], entry["against"], entry["roles"]) for entry in found] == [
        ("step-10", "base", ["base", "predecessor"]),
        ("step-40", "base", ["base"]),
        ("step-40", "step-10", ["predecessor"]),
        ("teacher", "base", ["base"]),
    ]
    assert [entry["difference"] for entry in found] == [0.25, 0.75, 0.5, 0.5]
    # Three items changed, all for the better: two of the eight sign assignments are as far from zero.
    assert found[1]["p_value"] == 0.25
    assert (found[1]["score"], found[1]["against_score"], found[1]["num_items"]) == (1.0, 0.25, 4)
    assert found == compare(runs[::-1], seed=1), "the order of the models does not matter"
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_tasks_are_compared_apart() -> None:
    runs = [
        run_of(path, step, "10", task=task)
        for task in ("sorting", "addition")
        for path, step in (("base", 0), ("hf/step-10", 10))
    ]
    assert [(entry["task"], entry["name"]) for entry in compare(runs, 1)] == [
        ("addition", "step-10"),
        ("sorting", "step-10"),
    ]
    assert compare(runs[:1], 1) == []


def test_series_in_two_folders_are_not_each_others_predecessors() -> None:
    models = [make_plan(f"{run}/step-{n}", n).model for run in "ab" for n in (10, 20)]
    models += [make_plan("base", 0).model, make_plan("other", None).model]
    predecessors = {model.path: predecessor_of(model, models) for model in models}
    paths = {str(path): str(model.path) if model else None for path, model in predecessors.items()}
    assert paths == {
        "a/step-10": "base",
        "a/step-20": "a/step-10",
        "b/step-10": "base",
        "b/step-20": "b/step-10",
        "base": None,
        "other": None,
    }
    assert base_of(models).path == Path("base")


def test_without_iteration_0_the_earliest_or_the_first_is_the_base() -> None:
    late, early, one, two = (make_plan(p, n).model for p, n in (("l", 20), ("e", 10), ("o", None), ("t", None)))
    assert base_of([one, late, early]) is early
    assert base_of([one, two]) is one


def test_what_else_differs_and_missing_items_are_named() -> None:
    base = run_of("base", 0, "10", max_tokens=50)
    other = run_of("hf/step-10", 10, "11111111")
    (found,) = compare([base, other], seed=1)
    assert found["unlike"] == ["sampling.max_tokens"]
    assert (found["num_items"], found["num_only_here"], found["num_only_there"]) == (2, 6, 0)
    assert found["only_here"] == ["2", "3", "4", "5", "6"]
    assert found["difference"] == 0.5
    assert found["score"] == 1.0


def test_points_are_compared_where_both_have_them() -> None:
    def judged(path: str, iteration: int, points: dict[str, float]) -> GradedPlan:
        graded = [make_answer(item, True, figures={"score": value}) for item, value in points.items()]
        graded.append(make_answer("failed", None, reason="judge_failed"))
        return GradedPlan(plan=make_plan(path, iteration), graded=graded, grader="judge@1")

    (found,) = compare([judged("base", 0, {"a": 1, "b": 2}), judged("step", 5, {"a": 3.5, "b": 2, "c": 9})], seed=1)
    assert (found["unit"], found["difference"], found["num_only_here"]) == ("points", pytest.approx(1.25), 1)
