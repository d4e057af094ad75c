"""Output folders of a small study as `tools/run_study` leaves them, with answers that a test writes."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

STUDY = """\
title: Small
axes:
  model: [A, B]
  data_set: [D, E]
  teacher: [T]
  learning_rate: [5e-5]
  epochs: [1]
  batch: [4]
  schedule: [cosine]
  last_step: [20]
base: {model: A, data_set: D, teacher: T, learning_rate: 5e-5, epochs: 1, batch: 4, schedule: cosine, last_step: 20}
steps: [10, 20]
benchmarks:
  sums: {task: sums, title: Sums, group: in-domain, unit: per cent, num_items: 8, num_samples: 2}
  words: {task: words, title: Words, group: out-of-domain, unit: per cent, num_items: 8, num_samples: 1}
  harm: {task: harm, title: Harm, group: safety, unit: per cent, num_items: 8, num_samples: 1, better: lower}
arms:
  long: {recipe: own.yaml}
  short: {recipe: own.yaml, data_set: E}
  other: {recipe: own.yaml, model: B}
comparisons:
  - {name: data, arms: [long, short], at: equal steps}
  - {name: models, arms: [long, other]}
"""

Line = Mapping[str, Any]


def answer(item: str, score: float | None, sample: int = 0, **more: Any) -> dict[str, Any]:
    """A line of answers/."""
    line = {"item": item, "sample": sample, "score": score, "num_tokens": 10, "cut_off": False, "extracted": True}
    return line | {"ratios": {}} | more


def marks(values: Sequence[float], **more: Any) -> list[dict[str, Any]]:
    """One answer to each of items i0, i1, ..."""
    return [answer(f"i{number}", value, **more) for number, value in enumerate(values)]


def entry_of(name: str, task: str, iteration: int | None, lines: Sequence[Line], **more: Any) -> dict[str, Any]:
    """The entry of results.json that lines add up to."""
    items: dict[str, list[float]] = {}
    for line in lines:
        if line["score"] is not None:
            items.setdefault(line["item"], []).append(line["score"])
    means = [sum(values) / len(values) for values in items.values()]
    lengths = [line["num_tokens"] for line in lines]
    fields = {
        "model": f"hf/{name}",
        "name": name,
        "iteration": iteration,
        "task": task,
        "num_items": len({line["item"] for line in lines}),
        "num_samples": len(lines),
        "unit": "share",
        "score": sum(means) / len(means) if means else None,
        "ratios": {},
        "mean_length_tokens": sum(lengths) / len(lengths),
        "share_cut_off": sum(line["cut_off"] for line in lines) / len(lines),
        "share_extracted": sum(line["extracted"] for line in lines) / len(lines),
        "accuracy_among_extracted": None,
        "accuracy_among_finished": None,
        "repetition_rate": 0.25,
        "grader": "exact@1",
        "engine": {"vllm": "1"},
        "sampling": {"temperature": 0.0},
        "seed": 0,
        "model_fingerprint": f"{name} {iteration}",
        "prompt_fingerprint": "prompts",
        "commit": "abc",
    }
    return fields | more


def write_result(folder: Path, name: str, task: str, iteration: int | None, lines: Sequence[Line], **more: Any) -> None:
    """Add one model's answers to a task to an output folder of tools/evaluate."""
    path = folder / "answers" / name / f"{task}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    results = folder / "results.json"
    known = json.loads(results.read_text(encoding="utf-8")) if results.exists() else []
    results.write_text(json.dumps([*known, entry_of(name, task, iteration, lines, **more)]), encoding="utf-8")
