"""The output folders of `tools/evaluate` as numbers by item; docs/results.md has the files.

Only `answers/` is read, which holds what each entry of results.json rests on, and it is checked against that entry.
"""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from megatron_sft.errors import DataError
from megatron_sft.metrics import read_jsonl

TOLERANCE = 1e-9
SAME_MEASUREMENT = ("model_fingerprint", "prompt_fingerprint", "sampling", "grader", "score")
"""Fields by which two entries are the same measurement, found twice."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One entry of a results.json."""

    folder: Path
    """Output folder of the evaluation."""
    fields: dict[str, Any]

    @property
    def answers_path(self) -> Path:
        """The file with its answers."""
        return self.folder / "answers" / str(self.fields["name"]) / f"{self.fields['task']}.jsonl"


@dataclass(frozen=True, kw_only=True)
class Answers:
    """One model's answers to one task, by item in the file's order."""

    scores: dict[str, float]
    """Mean over the samples that have one; items without any are absent."""
    ratios: dict[str, dict[str, float]]
    """Further figures: name -> item -> its sum of numerators over that of denominators."""
    lengths: dict[str, tuple[int, ...]]
    """Tokens, by sample."""
    cut: dict[str, tuple[bool, ...]]
    extracted: dict[str, float]
    """Share of the samples from which an answer could be taken."""


def read_entries(folders: Iterable[Path]) -> list[Entry]:
    """Return the entries of folders that have results; others count as not evaluated yet.

    Raises:
        DataError: for a results.json of another form.
    """
    entries = []
    for folder in folders:
        path = folder / "results.json"
        if not path.is_file():
            continue
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise DataError(f"{path}: not JSON ({error}): run tools/evaluate again with --stage grade") from error
        needed = {"name", "task", "iteration", "num_items", "num_samples", "score", "unit", *SAME_MEASUREMENT}
        if not isinstance(found, list) or not all(isinstance(one, dict) and needed <= one.keys() for one in found):
            raise DataError(f"{path}: expected a list of results as tools/evaluate writes them: move it away")
        entries += [Entry(folder=folder, fields=one) for one in found]
    return entries


def only_one(entries: Sequence[Entry], what: str) -> Entry:
    """Return the entry of a model and task that may stand in several parts of an evaluation.

    Raises:
        DataError: when they are not the same measurement.
    """
    first = entries[0]
    for other in entries[1:]:
        unlike = [name for name in SAME_MEASUREMENT if first.fields[name] != other.fields[name]]
        if unlike:
            raise DataError(
                f"{what}: {first.folder / 'results.json'} ({first.fields['name']}) and {other.folder / 'results.json'} "
                f"({other.fields['name']}) both have results, with another {', '.join(unlike)}: remove what is stale"
            )
    return first


def read_answers(entry: Entry) -> Answers:
    """Read the answers of an entry.

    Raises:
        DataError: when the file is not there, is of another form, or does not add up to the entry.
    """
    path = entry.answers_path
    if not path.is_file():
        raise DataError(
            f"{path} is missing, which {entry.folder / 'results.json'} rests on: run tools/evaluate again with the "
            "same options and --stage grade"
        )
    scores: dict[str, list[float]] = {}
    tops: dict[str, dict[str, float]] = {}
    bottoms: dict[str, dict[str, float]] = {}
    samples: dict[str, dict[int, tuple[int, bool, bool]]] = {}
    for number, line in enumerate(read_jsonl(path), start=1):
        try:
            item, sample, score = str(line["item"]), int(line["sample"]), line["score"]
            seen = samples.setdefault(item, {})
            if sample in seen:
                raise DataError(f"{path}:{number}: item {item}, sample {sample}: stands there twice")
            seen[sample] = (int(line["num_tokens"]), bool(line["cut_off"]), bool(line["extracted"]))
            if score is not None:
                scores.setdefault(item, []).append(float(score))
            for name, (top, bottom) in line["ratios"].items():
                tops.setdefault(name, {}).setdefault(item, 0.0)
                bottoms.setdefault(name, {}).setdefault(item, 0.0)
                tops[name][item] += float(top)
                bottoms[name][item] += float(bottom)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path}:{number}: not an answer as tools/evaluate writes it ({error!r})") from error
    ordered = {item: [seen[sample] for sample in sorted(seen)] for item, seen in samples.items()}
    answers = Answers(
        scores={item: math.fsum(values) / len(values) for item, values in scores.items()},
        ratios={
            name: {item: top / bottoms[name][item] for item, top in sums.items() if bottoms[name][item]}
            for name, sums in tops.items()
        },
        lengths={item: tuple(length for length, _, _ in seen) for item, seen in ordered.items()},
        cut={item: tuple(cut for _, cut, _ in seen) for item, seen in ordered.items()},
        extracted={item: sum(found for _, _, found in seen) / len(seen) for item, seen in ordered.items()},
    )
    sums = {name: (math.fsum(tops[name].values()), math.fsum(bottoms[name].values())) for name in tops}
    _check(entry, answers, sums)
    return answers


def _check(entry: Entry, answers: Answers, sums: dict[str, tuple[float, float]]) -> None:
    """Compare what the answers add up to with the entry."""
    lengths = [length for seen in answers.lengths.values() for length in seen]
    flags = [cut for seen in answers.cut.values() for cut in seen]
    here: dict[str, float | None] = {
        "num_items": len(answers.lengths),
        "num_samples": len(lengths),
        "score": math.fsum(answers.scores.values()) / len(answers.scores) if answers.scores else None,
        "mean_length_tokens": math.fsum(lengths) / max(len(lengths), 1),
        "share_cut_off": sum(flags) / max(len(flags), 1),
    }
    there = {name: entry.fields.get(name) for name in here}
    for name, ratio in entry.fields.get("ratios", {}).items():
        top, bottom = sums.get(name, (0.0, 0.0))
        here[f"ratios {name}"], there[f"ratios {name}"] = top / bottom if bottom else None, ratio["value"]
    for name, value in here.items():
        other = there[name]
        same = (
            value is other if value is None or other is None else abs(value - other) <= TOLERANCE * max(1, abs(other))
        )
        if not same:
            raise DataError(
                f"{entry.answers_path}: {name} is {value}, but {other} in {entry.folder / 'results.json'} "
                f"({entry.fields['name']}, {entry.fields['task']}): the two are not of the same run; "
                "run tools/evaluate again with --stage grade"
            )
