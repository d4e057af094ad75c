"""What was measured of a study's arms, as arrays whose items stand at the same place for all steps and arms.

Shapes: S steps (base, 0, is the first one), I items, K samples.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from megatron_sft.errors import DataError
from megatron_sft.studies.analysis.curve import Values
from megatron_sft.studies.analysis.lengths import Flags
from megatron_sft.studies.finding.evaluations import Answers, Entry, only_one, read_answers, read_entries
from megatron_sft.studies.study import Study

COMPARED = ("prompt_fingerprint", "grader", "sampling", "engine", "seed")
"""Fields that should be the same at all steps of an arm: what differs there may be no difference of the models."""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One arm on one column."""

    arm: str
    column: str
    steps: tuple[int, ...]
    """[S]"""
    items: tuple[str, ...]
    """[I] those of all arms."""
    scores: Values
    """[S, I] in the column's unit, nan where an item is missing."""
    extracted: Values
    """[S, I] share of the responses from which an answer could be taken, nan where an item is missing."""
    whole: Flags
    """[I] items that all steps have with K samples: those that lengths are of."""
    lengths: Values
    """[S, whole items, K] tokens."""
    cut: Flags
    """[S, whole items, K]"""
    entries: tuple[Mapping[str, Any], ...]
    """[S] of results.json."""


@dataclass(frozen=True, kw_only=True)
class Measurements:
    """All that is there."""

    found: dict[tuple[str, str], Measurement]
    """By arm and column, in the study's order."""
    warnings: tuple[str, ...]
    provenance: dict[str, str]


@dataclass
class _Reader:
    """Reads every file of answers once."""

    study: Study
    run_folder: Path
    warnings: list[str] = field(default_factory=list)
    answers: dict[Path, Answers] = field(default_factory=dict)
    used: dict[Path, Entry] = field(default_factory=dict)

    def read(self, entry: Entry) -> Answers:
        path = entry.answers_path
        if path not in self.answers:
            self.answers[path], self.used[path] = read_answers(entry), entry
        return self.answers[path]

    def base_entries(self, model: str) -> dict[str, Entry]:
        """Task -> entry of a base model, whose own iteration (of its pre-training) does not matter."""
        folder = self.run_folder / "eval" / "base" / model
        by_task: dict[str, list[Entry]] = {}
        for entry in read_entries([folder]):
            by_task.setdefault(entry.fields["task"], []).append(entry)
        return {task: only_one(entries, f"base model {model}, task {task}") for task, entries in by_task.items()}

    def arm_entries(self, arm: str) -> dict[str, dict[int, Entry]]:
        """Task -> step -> entry of an arm, from all parts of its evaluation."""
        folder = self.run_folder / "eval" / "arms" / arm
        found: dict[str, dict[int, list[Entry]]] = {}
        for entry in read_entries([folder, *sorted(folder.glob("part-*"))]):
            step = entry.fields["iteration"]
            if step is None:
                raise DataError(
                    f"{folder}: {entry.fields['name']}: its results have no iteration: "
                    "evaluate checkpoints that tools/convert_checkpoint exported"
                )
            found.setdefault(entry.fields["task"], {}).setdefault(step, []).append(entry)
        return {
            task: {step: only_one(entries, f"arm {arm}, {task}, step {step}") for step, entries in by_step.items()}
            for task, by_step in found.items()
        }


def read_measurements(study: Study, run_folder: Path) -> Measurements:
    """Read OUTPUT/eval.

    Raises:
        DataError: for files of another form, and for answers that do not add up to their results.
    """
    reader = _Reader(study, run_folder)
    bases = {model: reader.base_entries(model) for model in {study.conditions(arm).model: None for arm in study.arms}}
    without = [model for model, found in bases.items() if not found]
    if without:
        reader.warnings.append(
            f"base models that are not evaluated, so that their arms have no curve: {_list(without)}"
        )
    chosen: dict[tuple[str, str], dict[int, Entry]] = {}
    nothing = []
    for arm in study.arms:
        entries = reader.arm_entries(arm)
        if not entries:
            nothing.append(arm)
            continue
        _warn_of_missing(reader, arm, entries)
        base = bases[study.conditions(arm).model]
        for column in study.columns():
            by_step = _of_column(reader, arm, column, base, entries)
            if 0 in by_step and len(by_step) > 1:
                chosen[arm, column] = by_step
    if nothing:
        reader.warnings.append(f"arms that are not evaluated: {_list(nothing)}")
    items = _items(reader, chosen)
    found = {
        (arm, column): _measurement(reader, arm, column, by_step, items[study.benchmark_of(column).task])
        for (arm, column), by_step in chosen.items()
    }
    for (arm, column), by_step in chosen.items():
        if column in study.benchmarks:
            reader.warnings += _unlike(arm, column, by_step)
    return Measurements(found=found, warnings=tuple(reader.warnings), provenance=_provenance(reader))


def _of_column(
    reader: _Reader, arm: str, column: str, base: Mapping[str, Entry], entries: Mapping[str, Mapping[int, Entry]]
) -> dict[int, Entry]:
    """Step -> entry, of the steps that the study asks for and that have the column's figure."""
    study = reader.study
    task = study.benchmark_of(column).task
    by_step = {step: entry for step, entry in entries.get(task, {}).items() if step > 0}
    if task in base:
        by_step[0] = base[task]
    figure = figure_of(study, column)
    there = [step for step in study.evaluated_steps(arm) if step in by_step]
    without = [step for step in there if _value(by_step[step].fields, figure) is None]
    if without and column in study.benchmarks:
        reader.warnings.append(f"arm {arm}, {column}: nothing was scored at step {', '.join(map(str, without))}")
    return {step: by_step[step] for step in there if step not in without}


def figure_of(study: Study, column: str) -> str:
    """Name of the ratio that a column shows; empty: the score."""
    return column.split("/")[1] if "/" in column else study.benchmark_of(column).figure


def _value(fields: Mapping[str, Any], figure: str) -> float | None:
    if not figure:
        score: float | None = fields["score"]
        return score
    ratio = fields.get("ratios", {}).get(figure)
    return None if ratio is None else ratio["value"]


def _items(reader: _Reader, chosen: Mapping[tuple[str, str], Mapping[int, Entry]]) -> dict[str, tuple[str, ...]]:
    """Task -> its items in all arms, in the order in which they come up."""
    found: dict[str, dict[str, None]] = {}
    for by_step in chosen.values():
        for entry in by_step.values():
            found.setdefault(entry.fields["task"], {}).update(dict.fromkeys(reader.read(entry).lengths))
    return {task: tuple(items) for task, items in found.items()}


def _measurement(
    reader: _Reader, arm: str, column: str, by_step: Mapping[int, Entry], items: Sequence[str]
) -> Measurement:
    figure, unit = figure_of(reader.study, column), reader.study.benchmark_of(column).unit
    answers = [reader.read(entry) for entry in by_step.values()]
    values = [one.ratios.get(figure, {}) if figure else one.scores for one in answers]
    scores = np.array([[by_item.get(item, np.nan) for item in items] for by_item in values])
    if unit == "per cent":
        if np.nanmin(scores) < 0 or np.nanmax(scores) > 1:
            where = next(iter(by_step.values())).folder
            raise DataError(
                f"{where}: {column}: scores from {np.nanmin(scores):g} to {np.nanmax(scores):g} are no shares: "
                f"give benchmark {column} of the study `unit: points`"
            )
        scores = 100 * scores
    whole = np.array([all(item in one.lengths for one in answers) for item in items], dtype=bool)
    everywhere = [item for item, there in zip(items, whole, strict=True) if there]
    num_samples = min((len(one.lengths[item]) for one in answers for item in everywhere), default=1)
    shape = (len(answers), len(everywhere), num_samples)
    lengths = [one.lengths[item][:num_samples] for one in answers for item in everywhere]
    cut = [one.cut[item][:num_samples] for one in answers for item in everywhere]
    return Measurement(
        arm=arm,
        column=column,
        steps=tuple(by_step),
        items=tuple(items),
        scores=scores,
        extracted=np.array([[one.extracted.get(item, np.nan) for item in items] for one in answers]),
        whole=whole,
        lengths=np.array(lengths, dtype=np.float64).reshape(shape),
        cut=np.array(cut, dtype=bool).reshape(shape),
        entries=tuple(entry.fields for entry in by_step.values()),
    )


def _warn_of_missing(reader: _Reader, arm: str, entries: Mapping[str, Mapping[int, Entry]]) -> None:
    """Say which steps and benchmarks an arm lacks, and which results the study does not ask for."""
    study = reader.study
    asked = study.evaluated_steps(arm)[1:]
    missing: dict[tuple[int, ...], list[str]] = {}
    for name, benchmark in study.benchmarks.items():
        steps = tuple(step for step in asked if step not in entries.get(benchmark.task, {}))
        if steps:
            missing.setdefault(steps, []).append(name)
    for steps, names in missing.items():
        which = "any step" if steps == asked else f"step {', '.join(map(str, steps))}"
        reader.warnings.append(f"arm {arm} is not evaluated at {which} on {', '.join(names)}")
    further = sorted({step for by_step in entries.values() for step in by_step} - {0, *asked})
    if further:
        reader.warnings.append(
            f"arm {arm} has results at step {', '.join(map(str, further))}, which the study does not evaluate; left out"
        )


def _unlike(arm: str, column: str, by_step: Mapping[int, Entry]) -> Iterator[str]:
    base = by_step[0].fields
    for name in COMPARED:
        steps = [step for step, entry in by_step.items() if entry.fields.get(name) != base.get(name)]
        if steps:
            yield (
                f"arm {arm}, {column}: another {name.replace('_', ' ')} than base at step "
                f"{', '.join(map(str, steps))}: a change may not be the model's"
            )


def _provenance(reader: _Reader) -> dict[str, str]:
    """What the figures have in common, or its values side by side."""
    found: dict[str, dict[str, None]] = {}
    for entry in reader.used.values():
        fields = entry.fields
        engine = ", ".join(f"{name} {value}" for name, value in sorted((fields.get("engine") or {}).items()))
        for name, value in (
            ("evaluation commit", fields.get("commit")),
            ("evaluation seed", fields.get("seed")),
            ("engine", engine or None),
        ):
            if value is not None:
                found.setdefault(name, {})[str(value)] = None
    return {name: " | ".join(values) for name, values in found.items()}


def _list(names: Sequence[str]) -> str:
    return ", ".join(names)
