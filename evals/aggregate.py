"""The aggregate stage: from graded answers to the figures of one model on one task."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from evals import estimates
from evals.behaviours import PhraseCounter, behaviour_rates
from evals.grade import GradedAnswer
from evals.plan import TaskPlan
from evals.repetition import ends_in_loop
from evals.task import Task

NOTHING_EXTRACTED = frozenset(
    {
        # The grade stage: there is no final answer to look at.
        *("cut_off", "think_not_closed"),
        # Graders: the final answer holds nothing of the form that was asked for.
        *("no_boxed_answer", "no_letter", "no_option", "no_yes_or_no", "no_code", "no_answer", "no_score"),
        # The grader never looked.
        "bad item",
    }
)
"""The words before the colon of `reason` that mean that no answer could be taken from a response."""
SHARE, POINTS = "share", "points"


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What the results of a whole run have in common."""

    commit: str | None
    """Of this program, with `+changes` behind it if files differ from the commit; None outside a git checkout."""
    seed: int


def aggregate(
    plan: TaskPlan,
    graded: list[GradedAnswer],
    grader: str,
    provenance: Provenance,
    *,
    ratios: Mapping[str, tuple[str, str]] | None = None,
    published: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Return the entry of results.json; its fields are documented in docs/results.md.

    Args:
        plan: what was asked.
        graded: its answers, at least one.
        grader: the grader's name with version.
        provenance: of the run.
        ratios: name -> (numerator, denominator), figures of the answers that are summed over the task.
        published: the paper's scores by base model, in its own unit.
    """
    unit = unit_of(plan.task, graded)
    finished = [answer for answer in graded if answer.finish_reason != "length"]
    extracted = [answer for answer in graded if is_extracted(answer)]
    return {
        "model": str(plan.model.path),
        "name": plan.model.name,
        "iteration": plan.model.iteration,
        "task": plan.task.name,
        "group": plan.task.group,
        "num_items": len(plan.task.items),
        "num_samples": len(graded),
        **score_fields(graded, unit, estimates.seed_of(plan.task.name, provenance.seed)),
        "ratios": ratio_fields(graded, ratios or {}),
        "published": dict(sorted((published or {}).items())),
        "mean_length_tokens": estimates.mean([answer.num_tokens for answer in graded]),
        "length_tokens": length_fields(graded, plan.sampling.max_tokens),
        "share_cut_off": _share(answer.finish_reason == "length" for answer in graded),
        "num_finished": len(finished),
        **_among("finished", finished, unit),
        "share_extracted": len(extracted) / len(graded),
        **_among("extracted", extracted, unit),
        "repetition_rate": _share(
            ends_in_loop(answer.token_ids, answer.text, answer.finish_reason) for answer in graded
        ),
        "behaviours": behaviour_rates(((answer.text, answer.num_tokens) for answer in graded), PhraseCounter()),
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


def unit_of(task: Task, graded: Iterable[GradedAnswer]) -> str:
    """Return "points" where a judge or a reward model decides, or answers have scores of their own, else "share".

    A judge that decides about nothing leaves the task without a score: 0 would be an attack success rate, say.
    """
    judged = task.rubric is not None
    return POINTS if judged or any("score" in answer.figures for answer in graded) else SHARE


def scores(graded: Iterable[GradedAnswer], unit: str) -> list[tuple[str, float]]:
    """Return (item, score) of every answer that has one.

    In shares all have: 1 if correct, else 0, undecided included. In points those without (cut off, or the judge
    failed) have none: no number of points stands for "no answer".
    """
    if unit == SHARE:
        return [(answer.item, float(answer.correct is True)) for answer in graded]
    return [(answer.item, answer.figures["score"]) for answer in graded if "score" in answer.figures]


def score_fields(graded: list[GradedAnswer], unit: str, seed: int) -> dict[str, Any]:
    """Return score, its uncertainty, its unit, and the same for each subset where there are several.

    The score is the mean of the items' means; every item has equally many samples, so it is that of all samples,
    too, unless some have no points. Where none has, it is None.
    """
    scored = scores(graded, unit)
    subsets = sorted({answer.subset for answer in graded})
    fields = {"unit": unit, "num_unscored": len(graded) - len(scored), **_estimate(scored, seed)}
    if len(subsets) < 2:
        return fields | {"score_by_subset": {}}
    return fields | {
        "score_by_subset": {
            subset: {"num_items": len({answer.item for answer in members}), **_estimate(scores(members, unit), seed)}
            for subset in subsets
            for members in [[answer for answer in graded if answer.subset == subset]]
        }
    }


def ratio_fields(graded: list[GradedAnswer], ratios: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
    """Return name -> value, standard error, and the number of answers that have the denominator's figure."""
    fields = {}
    for name, (numerator, denominator) in sorted(ratios.items()):
        counted = [answer for answer in graded if denominator in answer.figures]
        tops = estimates.sums_by_item((answer.item, answer.figures.get(numerator, 0.0)) for answer in counted)
        bottoms = estimates.sums_by_item((answer.item, answer.figures[denominator]) for answer in counted)
        found = estimates.ratio(list(tops.values()), list(bottoms.values()))
        fields[name] = {"value": found.value, "stderr": found.stderr, "num_answers": len(counted)}
    return fields


def length_fields(graded: list[GradedAnswer], max_tokens: int) -> dict[str, Any]:
    """Return the lengths of all, correct and other answers in tokens, the stop token included."""
    num_cut_off = sum(answer.finish_reason == "length" for answer in graded)
    note = f"right-censored at max_tokens = {max_tokens}, where {num_cut_off} of {len(graded)} answers were cut off"
    return {
        "all": estimates.length_summary([answer.num_tokens for answer in graded]),
        "correct": estimates.length_summary([answer.num_tokens for answer in graded if answer.correct]),
        "wrong": estimates.length_summary([answer.num_tokens for answer in graded if not answer.correct]),
        "note": note,
    }


def is_extracted(answer: GradedAnswer) -> bool:
    """Say whether an answer could be taken from the response, right or wrong."""
    return answer.correct is True or _category(answer) not in NOTHING_EXTRACTED


def _estimate(scored: list[tuple[str, float]], seed: int) -> dict[str, Any]:
    means = list(estimates.means_by_item(scored).values())
    interval = estimates.bootstrap_interval(means, seed)
    return {
        "score": estimates.mean(means),
        "stderr": estimates.standard_error(means),
        "interval": None if interval is None else list(interval),
    }


def _among(name: str, some: list[GradedAnswer], unit: str) -> dict[str, Any]:
    """Return the mean score among some answers: an item counts by how many of its answers are among them."""
    scored = scores(some, unit)
    tops = estimates.sums_by_item(scored)
    bottoms = estimates.sums_by_item((item, 1.0) for item, _ in scored)
    return {
        f"accuracy_among_{name}": estimates.mean([value for _, value in scored]),
        f"accuracy_among_{name}_stderr": estimates.ratio(list(tops.values()), list(bottoms.values())).stderr,
    }


def _share(outcomes: Iterable[bool]) -> float:
    values = list(outcomes)
    return math.fsum(values) / len(values)


def _category(answer: GradedAnswer) -> str:
    return "correct" if answer.correct else answer.reason.split(":")[0]


def _engines(graded: list[GradedAnswer]) -> dict[str, str]:
    """Return the engine's versions; several, where answers on file come from another one, joined by " | "."""
    names = sorted({name for answer in graded for name in answer.engine})
    return {name: " | ".join(sorted({answer.engine.get(name, "?") for answer in graded})) for name in names}
