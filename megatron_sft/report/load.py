"""Reads what a run left behind: evaluation results, training metrics and configuration.

A file that is missing is a warning in the report, as a run may still be going on; a file that is damaged is an error.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from megatron_sft.errors import DataError
from megatron_sft.metrics import read_jsonl

RESULTS = Path("eval") / "results.json"
METRICS = Path("train") / "metrics.jsonl"
RUN_CONFIG = Path("train") / "run_config.json"
IN_DOMAIN, OUT_OF_DOMAIN = "in-domain", "out-of-domain"
GROUPS = (IN_DOMAIN, OUT_OF_DOMAIN, "general", "safety")
# What an entry of results.json found out; its other fields are settings, which say how.
FIGURES = {
    *("model", "name", "iteration", "task", "group", "num_samples", "score", "stderr", "unit", "mean_length_tokens"),
    *("share_cut_off", "num_items", "num_unscored", "interval", "score_by_subset", "ratios", "published"),
    *("length_tokens", "num_finished", "accuracy_among_finished", "accuracy_among_finished_stderr"),
    *("share_extracted", "accuracy_among_extracted", "accuracy_among_extracted_stderr", "repetition_rate"),
    *("behaviours", "num_undecided", "reasons"),
}


@dataclass(frozen=True, kw_only=True)
class Score:
    """One model on one task."""

    model: str
    """Name of the model folder."""
    iteration: int | None
    """Optimizer step of the checkpoint; 0 for the base model, None for a model that belongs to no step."""
    task: str
    """Name of the task."""
    group: str
    """One of `GROUPS`."""
    num_samples: int
    """Generations graded."""
    score: float
    """Share that is right, 0 to 1; with the unit "points" the mean of a judge's or a reward model's."""
    stderr: float | None
    """Standard error of `score`; None for a single problem."""
    unit: str
    """`share` or `points`."""
    mean_length: float
    """Mean length of a generation in tokens."""
    share_cut_off: float
    """Share of generations that the length limit ended, 0 to 1."""
    settings: dict[str, Any]
    """Everything else that the evaluator recorded: engine, sampling, seed, commit, ..."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run folder."""

    name: str
    """Shown in legends: the folder's name, lengthened where two runs have the same."""
    folder: Path
    """Where it was read."""
    scores: tuple[Score, ...]
    """By task and step."""
    steps: tuple[dict[str, Any], ...]
    """Lines of metrics.jsonl in step order, one for each step."""
    config: dict[str, Any]
    """run_config.json with nested keys joined by dots."""
    warnings: tuple[str, ...]
    """Files that were not there."""

    @property
    def tasks(self) -> list[tuple[str, str]]:
        """(task, group) in the order of the results, in-domain first."""
        pairs = dict.fromkeys((score.task, score.group) for score in self.scores)
        return sorted(pairs, key=lambda pair: pair[1] != IN_DOMAIN)

    def curve(self, task: str) -> list[Score]:
        """The scores of `task` that have a step, by step."""
        points = [score for score in self.scores if score.task == task and score.iteration is not None]
        return sorted(points, key=lambda score: score.iteration or 0)

    def base(self, task: str) -> Score | None:
        """The base model's score, or None when it was not evaluated on `task`."""
        return next((score for score in self.scores if score.task == task and score.iteration == 0), None)


def load_runs(folders: tuple[Path, ...]) -> list[Run]:
    """Read every run folder.

    Raises:
        DataError: for a folder that does not exist, has nothing to report, or holds a damaged file.
    """
    return [load_run(folder, name) for folder, name in zip(folders, distinct_names(folders), strict=True)]


def distinct_names(folders: tuple[Path, ...]) -> list[str]:
    """The shortest endings of the paths that tell all folders apart."""
    parts = [folder.resolve().parts for folder in folders]
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["/".join(path[-depth:]) for path in parts]
        if len(set(names)) == len(names):
            return names
    raise DataError(f"a run folder is named twice: {', '.join(map(str, folders))}")


def load_run(folder: Path, name: str) -> Run:
    """Read one run folder; see `load_runs`."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such run folder")
    present = [path for path in (RESULTS, METRICS, RUN_CONFIG) if (folder / path).is_file()]
    if not set(present) & {RESULTS, METRICS}:
        raise DataError(f"{folder}: neither {RESULTS} nor {METRICS} is there: is this a run folder?")
    scores, unscored = load_scores(folder / RESULTS) if RESULTS in present else ((), ())
    return Run(
        name=name,
        folder=folder,
        scores=scores,
        steps=load_steps(folder / METRICS) if METRICS in present else (),
        config=flatten(load_json(folder / RUN_CONFIG, dict)) if RUN_CONFIG in present else {},
        warnings=(*(f"{path} is missing" for path in (RESULTS, METRICS, RUN_CONFIG) if path not in present), *unscored),
    )


def load_scores(path: Path) -> tuple[tuple[Score, ...], tuple[str, ...]]:
    """Read results.json; docs/results.md has its fields. Entries without a score become warnings."""
    scores: list[Score] = []
    unscored: list[str] = []
    for number, record in enumerate(load_json(path, list), start=1):
        where = f"{path}, entry {number}"
        if isinstance(record, dict) and "score" in record and record["score"] is None:
            task, model = text_field(record, "task", where), text_field(record, "name", where)
            unscored.append(f"{task}: no answer of {model} was scored, so the report leaves it out")
        else:
            scores.append(parse_score(record, where))
    return tuple(scores), tuple(unscored)


def parse_score(record: Any, where: str) -> Score:
    """Check one entry of results.json.

    Raises:
        DataError: naming the entry and the field that is missing or of the wrong kind.
    """
    if not isinstance(record, dict):
        raise DataError(f"{where}: expected an object, found {type(record).__name__}")
    group = text_field(record, "group", where)
    if group not in GROUPS:
        raise DataError(f"{where}: group is {group!r}: expected one of {', '.join(GROUPS)}")
    unit = record.get("unit", "share")
    if unit not in ("share", "points"):
        raise DataError(f"{where}: unit is {unit!r}: expected 'share' or 'points'")
    iteration = record.get("iteration")
    if iteration is not None and (not isinstance(iteration, int) or iteration < 0):
        raise DataError(f"{where}: iteration is {iteration!r}: expected a step or null")
    return Score(
        model=text_field(record, "name", where),
        iteration=iteration,
        task=text_field(record, "task", where),
        group=group,
        num_samples=int(number_field(record, "num_samples", where)),
        score=number_field(record, "score", where, signed=unit == "points"),
        stderr=None if record.get("stderr") is None else number_field(record, "stderr", where),
        unit=unit,
        mean_length=number_field(record, "mean_length_tokens", where),
        share_cut_off=number_field(record, "share_cut_off", where),
        settings={key: value for key, value in record.items() if key not in FIGURES},
    )


def text_field(record: dict[str, Any], field: str, where: str) -> str:
    """A field that must be a non-empty text."""
    value = record.get(field)
    if not isinstance(value, str) or not value:
        raise DataError(f"{where}: {field} is {value!r}: expected a text")
    return value


def number_field(record: dict[str, Any], field: str, where: str, *, signed: bool = False) -> float:
    """A field that must be a finite number, zero or more unless `signed`."""
    value = record.get(field)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if value is None or not is_number or not math.isfinite(value) or (value < 0 and not signed):
        raise DataError(f"{where}: {field} is {value!r}: expected a number{'' if signed else ', zero or more'}")
    return float(value)


def load_steps(path: Path) -> tuple[dict[str, Any], ...]:
    """Read metrics.jsonl. A run that was killed repeats steps after its last checkpoint: the later line counts."""
    steps: dict[int, dict[str, Any]] = {}
    for number, record in enumerate(read_jsonl(path), start=1):
        iteration = record.get("iteration")
        if not isinstance(iteration, int):
            raise DataError(f"{path}, record {number}: iteration is {iteration!r}: expected a step")
        steps[iteration] = record
    return tuple(steps[iteration] for iteration in sorted(steps))


def load_json(path: Path, kind: type) -> Any:
    """Read a JSON file whose top level must be of `kind`."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error})") from error
    if not isinstance(value, kind):
        raise DataError(f"{path}: expected a JSON {kind.__name__}, found {type(value).__name__}")
    return value


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Join nested keys by dots; lists stay whole.

    >>> flatten({"a": {"b": 1, "c": [2, 3]}})
    {'a.b': 1, 'a.c': [2, 3]}
    """
    if not isinstance(value, dict) or not value:
        return {prefix: value} if prefix else {}
    flat: dict[str, Any] = {}
    for key, item in value.items():
        flat |= flatten(item, f"{prefix}.{key}" if prefix else str(key))
    return flat
