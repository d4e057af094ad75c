"""results.json, the table and TensorBoard events."""

from pathlib import Path

import pytest

from evals.publish import format_table, merge_results, read_results, write_tensorboard
from megatron_sft.errors import DataError


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
