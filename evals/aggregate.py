"""The aggregate stage: from graded answers to the figures of one model on one task."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from evals.grade import GradedAnswer
from evals.plan import TaskPlan


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What the results of a whole run have in common."""

    commit: str | None
    """Of this program, with `+changes` behind it if files differ from the commit; None outside a git checkout."""
    seed: int


def aggregate(plan: TaskPlan, graded: list[GradedAnswer], grader: str, provenance: Provenance) -> dict[str, Any]:
    """Return the entry of results.json; its fields are documented in docs/evaluation-protocol.md."""
    num_samples = len(graded)
    return {
        "model": str(plan.model.path),
        "name": plan.model.name,
        "iteration": plan.model.iteration,
        "task": plan.task.name,
        "group": plan.task.group,
        "num_items": len(plan.task.items),
        "num_samples": num_samples,
        "score": _share(answer.correct is True for answer in graded),
        "stderr": standard_error(graded),
        "mean_length_tokens": sum(answer.num_tokens for answer in graded) / num_samples,
        "share_cut_off": _share(answer.finish_reason == "length" for answer in graded),
        "num_undecided": sum(answer.correct is None for answer in graded),
        "reasons": dict(sorted(Counter(_category(answer) for answer in graded).items())),
        "grader": grader,
        "engine": _engines(graded),
        "sampling": asdict(plan.sampling),
        "seed": provenance.seed,
        "model_fingerprint": plan.model.fingerprint,
        "prompt_fingerprint": plan.prompt_fingerprint,
        "commit": provenance.commit,
    }


def standard_error(graded: list[GradedAnswer]) -> float | None:
    """Return the standard error of the score, with the samples of an item taken as one cluster; None for one item.

    Samples of the same item are not independent, so it is the deviation of the item means that counts:
    with one sample per item, the usual sqrt(p (1-p) / (n-1)).
    """
    by_item: defaultdict[str, list[bool]] = defaultdict(list)
    for answer in graded:
        by_item[answer.item].append(answer.correct is True)
    means = [sum(outcomes) / len(outcomes) for outcomes in by_item.values()]
    if len(means) < 2:
        return None
    mean = sum(means) / len(means)
    variance = sum((value - mean) ** 2 for value in means) / (len(means) - 1)
    return math.sqrt(variance / len(means))


def _share(outcomes: Iterable[bool]) -> float:
    values = list(outcomes)
    return sum(values) / len(values)


def _category(answer: GradedAnswer) -> str:
    return "correct" if answer.correct else answer.reason.split(":")[0]


def _engines(graded: list[GradedAnswer]) -> dict[str, str]:
    """Return the engine's versions; several, where answers on file come from another one, joined by " | "."""
    names = sorted({name for answer in graded for name in answer.engine})
    return {name: " | ".join(sorted({answer.engine.get(name, "?") for answer in graded})) for name in names}
