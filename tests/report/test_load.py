"""Reading run folders: what is there, what is missing, what is damaged."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from megatron_sft.errors import DataError
from megatron_sft.report.load import distinct_names, flatten, load_run, load_runs


def test_run_is_read_whole(make_run: Callable[..., Path]) -> None:
    run = load_run(make_run(), "run")
    assert run.tasks == [("addition", "in-domain"), ("countdown", "out-of-domain")]  # in-domain first
    assert [(score.iteration, score.score) for score in run.curve("addition")] == [(0, 0.01), (10, 0.4), (20, 0.95)]
    base = run.base("addition")
    assert base is not None
    assert (base.score, base.num_samples, base.mean_length) == (0.01, 200, 42.5)
    assert base.settings["sampling"] == {"temperature": 0.6, "max_tokens": 256}
    assert run.config == {"lr": 1e-3, "model.hidden_size": 128}
    assert run.warnings == ()


def test_later_line_of_a_repeated_step_counts(make_run: Callable[..., Path]) -> None:
    steps = [{"iteration": i, "loss": loss} for i, loss in [(1, 3.0), (2, 2.0), (3, 9.0), (2, 2.1), (3, 1.0)]]
    run = load_run(make_run(steps=steps), "run")
    assert [(step["iteration"], step["loss"]) for step in run.steps] == [(1, 3.0), (2, 2.1), (3, 1.0)]


def test_missing_files_are_warnings(make_run: Callable[..., Path]) -> None:
    run = load_run(make_run(steps=None, config=None), "run")
    assert run.warnings == ("train/metrics.jsonl is missing", "train/run_config.json is missing")
    assert len(run.scores) == 4
    assert (run.steps, run.config) == ((), {})


def test_folder_that_is_no_run_is_refused(make_run: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is this a run folder"):
        load_run(make_run(scores=None, steps=None), "run")
    with pytest.raises(DataError, match="no such run folder"):
        load_run(tmp_path / "absent", "absent")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"score": "0.5"}, r"entry 4: score is '0\.5': expected a number"),
        ({"score": float("nan")}, "entry 4: score is nan"),
        ({"score": -0.1}, r"entry 4: score is -0\.1: expected a number, zero or more"),
        ({"stderr": "0.1"}, r"entry 4: stderr is '0\.1'"),
        ({"unit": "miles"}, "entry 4: unit is 'miles': expected 'share' or 'points'"),
        ({"task": ""}, "entry 4: task is ''"),
        ({"group": "elsewhere"}, "entry 4: group is 'elsewhere': expected one of in-domain, "),
        ({"iteration": -1}, "entry 4: iteration is -1"),
    ],
)
def test_damaged_entry_is_named(make_run: Callable[..., Path], change: dict[str, object], message: str) -> None:
    folder = make_run()
    path = folder / "eval" / "results.json"
    entries = json.loads(path.read_text())
    entries[3] |= change
    path.write_text(json.dumps(entries))
    with pytest.raises(DataError, match=message):
        load_run(folder, "run")


def test_damaged_files_are_named(make_run: Callable[..., Path]) -> None:
    folder = make_run()
    (folder / "eval" / "results.json").write_text("[")
    with pytest.raises(DataError, match=r"results\.json: not JSON"):
        load_run(folder, "run")
    (folder / "eval" / "results.json").write_text("{}")
    with pytest.raises(DataError, match=r"results\.json: expected a JSON list, found dict"):
        load_run(folder, "run")


def test_names_are_lengthened_until_distinct(make_run: Callable[..., Path]) -> None:
    folders = (make_run("x/run"), make_run("y/run"))
    assert [run.name for run in load_runs(folders)] == ["x/run", "y/run"]
    with pytest.raises(DataError, match="named twice"):
        distinct_names((folders[0], folders[0]))


def test_flatten_joins_keys() -> None:
    nested = {"a": {"b": 1, "c": {"d": [2, 3]}}, "e": {}, "f": None}
    assert flatten(nested) == {"a.b": 1, "a.c.d": [2, 3], "e": {}, "f": None}


def test_points_one_problem_and_other_groups_are_read(
    make_run: Callable[..., Path], score_entry: Callable[..., Any]
) -> None:
    entry = score_entry("reward", 0, -1.25, unit="points", stderr=None, group="general", behaviours={"x": 1})
    (score,) = load_run(make_run(scores=[entry]), "run").scores
    assert (score.score, score.stderr, score.unit, score.group) == (-1.25, None, "points", "general")
    assert "seed" in score.settings
    assert not {"behaviours", "unit", "stderr"} & set(score.settings)
