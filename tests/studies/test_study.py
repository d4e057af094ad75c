import re
from pathlib import Path

import pytest

from megatron_sft.errors import ConfigError
from megatron_sft.studies.study import load

SMALL = """\
title: Small
axes:
  model: [A, B]
  data_set: [D]
  teacher: [T]
  learning_rate: [5e-5, 1e-4]
  epochs: [1]
  batch: [4]
  schedule: [cosine]
  last_step: [30]
base: {model: A, data_set: D, teacher: T, learning_rate: 5e-5, epochs: 1, batch: 4, schedule: cosine, last_step: 30}
steps: [10, 20, 40]
benchmarks:
  sums: {task: sums, title: Sums, group: in-domain, unit: per cent, num_items: 50, num_samples: 2}
arms:
  a-fast: {recipe: own.yaml, learning_rate: 1e-4}
  b: {recipe: own.yaml, model: B, skip_steps: [20]}
claims:
  1: they differ
comparisons:
  - {name: models, arms: [a-fast, b], claims: [1]}
tags: {HERE: measured here}
reference:
  known:
    title: Known
    columns: sums sums/late
    tags: [HERE]
    rows:
      - {model: A, step: 0, cells: "10.0 ?"}
      - {arm: b, step: 10, cells: "12.5* -", doubt: read from a figure}
"""


def write(folder: Path, text: str) -> str:
    path = folder / "small.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_reads_a_study(tmp_path: Path) -> None:
    study = load(write(tmp_path, SMALL))
    assert study.name == "small"
    assert study.conditions("a-fast").learning_rate == 1e-4
    assert study.conditions("a-fast").model == "A"
    assert study.conditions("b").model == "B"
    assert study.evaluated_steps("a-fast") == (0, 10, 20)
    assert study.evaluated_steps("b") == (0, 10)
    assert study.benchmarks["sums"].better == "higher"
    cells = study.reference["known"].row_cells(study.reference["known"].rows[1])
    assert (cells["sums"].value, cells["sums"].mark, cells["sums"].tags) == (12.5, "doubtful", ("HERE",))
    assert (cells["sums/late"].value, cells["sums/late"].mark) == (None, "not given")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("model: B, skip", "model: C, skip", "small.yaml: arm b: model: C: the axis has A, B; add it there, or choose"),
        ("skip_steps: [20]", "skip_steps: [25]", "arm b: skip_steps: 25 is none of the study's steps"),
        ("steps: [10, 20, 40]", "steps: [20, 10]", "steps: [20, 10]: expected rising numbers"),
        ("task: sums, ", "", "small.yaml:14: task is missing here"),
        (
            "arms: [a-fast, b]",
            "arms: [a-fats, b]",
            "arms: there is no a-fats; known are a-fast, b; the nearest name is a-fast",
        ),
        ("claims: [1]", "claims: [2]", "comparison models: claims: there is no 2; known are 1"),
        ("num_items: 50", "num_items: many", "small.yaml:14: num_items: many: expected a whole number"),
        (
            "  sums: {task",
            "  sums: {tasks: s, task",
            "14: tasks: s: a study has no key tasks here; the nearest name is task",
        ),
        ("schedule: cosine, last", "schedule: linear, last", "expected one of cosine, constant"),
        ("columns: sums sums/late", "columns: sums late", "reference known: columns: there is no late"),
        ('"10.0 ?"', '"10.0"', "reference known: row 1: 1 cells for 2 columns"),
        ("10.0 ?", "10.0 ten", "row 1: ten: expected a number, one with a star, ? or -"),
        (", doubt: read from a figure", "", "row 2: cells with a star and a reason in `doubt` belong together"),
        ("model: A, step: 0", "model: A, step: 5", "row 1: step: 5: a base model has step 0"),
        ("{model: A, step", "{model: A, arm: b, step", "row 1: give one of arm, model and outside"),
        ("tags: [HERE]", "tags: [THERE]", "tags: there is no THERE; known are HERE"),
        ("own.yaml, learn", "paper:99, learn", "arm a-fast: recipe: paper:99: the paper has no run 99"),
        ("own.yaml, learn", "paper:1, learn", "arm a-fast: model: A: its recipe paper:1 has Qwen3-14B-Base"),
    ],
)
def test_errors_name_place_and_remedy(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert SMALL.count(old) == 1
    with pytest.raises(ConfigError, match=re.escape(message)):
        load(write(tmp_path, SMALL.replace(old, new)))


def test_unknown_names_list_what_there_is() -> None:
    with pytest.raises(ConfigError, match=r"no study papre: .*packaged are .*paper.*; the nearest name is paper"):
        load("papre")
