"""results.json, the table and TensorBoard events."""

from pathlib import Path

import pytest

from evals.aggregate import Provenance, aggregate
from evals.compare import GradedPlan, compare
from evals.publish import (
    escape_markdown,
    format_table,
    merge_comparisons,
    merge_results,
    read_results,
    scalars_of,
    write_markdown,
    write_tensorboard,
)
from megatron_sft.errors import DataError
from tests.evals.made_up import make_answer, make_plan


def entry(name: str, task: str, iteration: int | None, score: float = 0.5) -> dict:
    return {
        "name": name,
        "task": task,
        "group": "in-domain",
        "iteration": iteration,
        "score": score,
        "stderr": 0.025,
        "num_samples": 200,
        "mean_length_tokens": 61.25,
        "share_cut_off": 0.005,
        "num_undecided": 0,
    }


def test_results_are_merged_by_name_and_task_and_sorted(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    merge_results(path, [entry("b", "addition", 40), entry("a", "addition", 10), entry("c", "addition", None)])
    merge_results(path, [entry("a", "addition", 10, score=0.75), entry("base", "addition", 0)])
    results = read_results(path)
    assert [(result["name"], result["score"]) for result in results] == [
        ("base", 0.5),
        ("a", 0.75),
        ("b", 0.5),
        ("c", 0.5),
    ]
    assert [file.name for file in tmp_path.iterdir()] == ["results.json"], "no temporary file stays"


def test_a_foreign_results_file_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text('{"mine": 1}')
    with pytest.raises(DataError, match="move it away"):
        merge_results(path, [entry("a", "addition", 10)])
    assert path.read_text() == '{"mine": 1}'


def test_table() -> None:
    lines = format_table([entry("step-10", "addition", 10), entry("base", "addition", None)]).split("\n")
    assert " ".join(lines[0].split()) == "task group iteration model score +/- samples length cut off undecided"
    assert " ".join(lines[1].split()) == "addition in-domain 10 step-10 50.0 2.5 200 61.2 0.5% 0"
    assert lines[2].split()[2] == "-"


def test_tensorboard_has_each_point_once_also_after_a_second_run(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    write_tensorboard(tmp_path, [entry("a", "addition", 10)])
    assert (
        write_tensorboard(
            tmp_path, [entry("a", "addition", 10), entry("b", "addition", 40), entry("c", "addition", None)]
        )
        == 1
    )
    events = accumulator.EventAccumulator(str(tmp_path))
    events.Reload()
    assert [(point.step, point.value) for point in events.Scalars("eval/addition/score")] == [(10, 0.5), (40, 0.5)]
    assert [point.value for point in events.Scalars("eval/addition/mean_length_tokens")] == [61.25, 61.25]
    assert events.Scalars("eval/addition/share_cut_off")[0].value == pytest.approx(0.005)


def graded_run(path: str, iteration: int | None, outcomes: str, **figures: float) -> GradedPlan:
    graded = [
        make_answer(str(n), outcome == "1", num_tokens=10 * n + 10, figures=figures)
        for n, outcome in enumerate(outcomes)
    ]
    return GradedPlan(plan=make_plan(path, iteration), graded=graded, grader="exact@1")


def results_of(runs: list[GradedPlan], ratios: dict[str, tuple[str, str]] | None = None) -> list[dict]:
    provenance = Provenance(commit=None, seed=7)
    return [aggregate(run.plan, run.graded, run.grader, provenance, ratios=ratios) for run in runs]


def test_markdown_has_a_row_for_each_model_and_the_differences(tmp_path: Path) -> None:
    runs = [graded_run("base|<b>_x_", 0, "1000"), graded_run("hf/step-10", 10, "1110")]
    write_markdown(tmp_path / "out" / "results.md", results_of(runs), compare(runs, 7))
    lines = (tmp_path / "out" / "results.md").read_text(encoding="utf-8").splitlines()
    rows = [line for line in lines if line.startswith("| addition")]
    assert rows[0].startswith(
        r"| addition | in-domain | 0 | base\|\<b\>\_x\_ | 25.0 ± 25.0 | 0.0 to 75.0 | 4 | 4 | 25 | 25 |"
    )
    assert rows[1].endswith("| 0.0 % | 75.0 of 4 | 0 |")
    assert rows[2].startswith(r"| addition | 10 | step-10 | base\|\<b\>\_x\_ | +50.0 ± 28.9 | ")
    assert rows[2].endswith("| 0.5000 | 4 | - |")
    # Every row of a table has as many cells as its head.
    for first, second in ((lines.index(rows[0]) - 2, 13), (lines.index(rows[2]) - 2, 9)):
        for line in lines[first : first + 3]:
            assert line.replace(r"\|", "").count("|") == second + 1


def test_points_are_no_percentages(tmp_path: Path) -> None:
    runs = [graded_run("base", 0, "11", score=-1.5), graded_run("hf/step-10", 10, "11", score=2.25)]
    results = results_of(runs)
    write_markdown(tmp_path / "results.md", results, compare(runs, 7))
    text = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert "| -1.50 ± 0.00 points |" in text
    assert "| +3.75 ± 0.00 points |" in text
    assert format_table(results).splitlines()[2].split()[4:6] == ["2.25", "0.00"]


def test_old_entries_can_be_written(tmp_path: Path) -> None:
    write_markdown(tmp_path / "results.md", [entry("a", "addition", 10) | {"num_items": 200}], [])
    text = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert "| addition | in-domain | 10 | a | 50.0 ± 2.5 | - | 200 | 200 | 61 | - | 0.5 % | - | 0 |" in text
    assert "Differences" not in text


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a|b", r"a\|b"),
        ("two\nlines", "two lines"),
        ("<i>*x*`", r"\<i\>\*x\*\`"),
        (r"a\|b", r"a\\\|b"),
        ("step-10", "step-10"),
    ],
)
def test_escaped_names(text: str, escaped: str) -> None:
    assert escape_markdown(text) == escaped


def test_comparisons_are_merged_and_do_not_outlive_their_scores(tmp_path: Path) -> None:
    path = tmp_path / "comparisons.json"
    base, early, late = graded_run("base", 0, "1000"), graded_run("hf/a", 10, "1100"), graded_run("hf/b", 20, "1110")
    merge_comparisons(path, compare([base, early], 7), results_of([base, early]))
    both = merge_comparisons(path, compare([base, late], 7), results_of([base, early, late]))
    assert [(found["name"], found["against"]) for found in both] == [("a", "base"), ("b", "base")]
    assert read_results(path) == both
    # The base was sampled anew and has another score: what was compared with the old one goes.
    base = graded_run("base", 0, "0000")
    found = merge_comparisons(path, compare([base, late], 7), results_of([base, early, late]))
    assert [(found["name"], found["difference"]) for found in found] == [("b", 0.75)]


def test_scalars() -> None:
    (result,) = results_of([graded_run("hf/step-10", 10, "10", followed=1, asked=2)], {"loose": ("followed", "asked")})
    found = dict(scalars_of(result))
    assert found == {
        "eval/addition/score": 0.5,
        "eval/addition/stderr": 0.5,
        "eval/addition/mean_length_tokens": 15.0,
        "eval/addition/median_length_tokens": 15.0,
        "eval/addition/share_cut_off": 0.0,
        "eval/addition/accuracy_among_finished": 0.5,
        "eval/addition/repetition_rate": 0.0,
        "eval/addition/loose": 0.5,
    }
    (result,) = results_of([graded_run("hf/step-10", 10, "1")])
    assert "eval/addition/stderr" not in dict(scalars_of(result)), "one item has no standard error"
