"""Paired differences between the models of a run on the same items: what a difference of two scores is worth.

Two scores on the same items share the items' difficulty, so the difference is surer than the two standard errors say:
every item's mean of one model is taken from the other's.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from evals import estimates
from evals.aggregate import POINTS, scores, unit_of
from evals.grade import GradedAnswer
from evals.plan import TaskPlan
from megatron_sft.generation.model_folder import ModelFolder

BASE, PREDECESSOR = "base", "predecessor"


@dataclass(frozen=True, kw_only=True)
class GradedPlan:
    """One model's graded answers to one task."""

    plan: TaskPlan
    graded: list[GradedAnswer]
    grader: str
    """Name with version."""


def compare(runs: Sequence[GradedPlan], seed: int) -> list[dict[str, Any]]:
    """Return the comparisons of every task, sorted by task, iteration and names; docs/results.md has the fields.

    Each model is compared with the base (see `base_of`) and with its predecessor (see `predecessor_of`).
    """
    by_task: dict[str, list[GradedPlan]] = {}
    for run in runs:
        by_task.setdefault(run.plan.task.name, []).append(run)
    entries = [entry for members in by_task.values() for entry in _compare_models(members, seed)]
    return sorted(entries, key=comparison_order)


def base_of(models: Sequence[ModelFolder]) -> ModelFolder:
    """Return the model that others are compared with: iteration 0, else the lowest iteration, else the first."""
    with_iteration = [model for model in models if model.iteration is not None]
    return min(with_iteration or models[:1], key=lambda model: model.iteration or 0)


def predecessor_of(model: ModelFolder, models: Sequence[ModelFolder]) -> ModelFolder | None:
    """Return the model with the highest lower iteration of the same series, else the base model of iteration 0.

    The checkpoints of a series lie in one folder; two series can have the same iterations.
    """
    if model.iteration is None:
        return None
    earlier = [other for other in models if other.iteration is not None and other.iteration < model.iteration]
    series = [other for other in earlier if other.path.parent == model.path.parent or other.iteration == 0]
    return max(series, key=lambda other: other.iteration or 0, default=None)


def comparison_order(entry: Mapping[str, Any]) -> tuple[Any, ...]:
    """Sort key: task, iteration (those without one last), name, then what it is compared with."""
    iteration = entry["iteration"]
    return entry["task"], iteration is None, iteration or 0, entry["name"], entry["against"]


def _compare_models(runs: Sequence[GradedPlan], seed: int) -> list[dict[str, Any]]:
    models = [run.plan.model for run in runs]
    by_path: dict[Path, GradedPlan] = {run.plan.model.path: run for run in runs}
    base = base_of(models)
    entries = []
    for run in runs:
        model = run.plan.model
        previous = predecessor_of(model, models)
        roles: dict[Path, list[str]] = {}
        if model.path != base.path:
            roles.setdefault(base.path, []).append(BASE)
        if previous is not None:
            roles.setdefault(previous.path, []).append(PREDECESSOR)
        entries += [_entry(run, by_path[path], names, seed) for path, names in roles.items()]
    return entries


def _entry(run: GradedPlan, other: GradedPlan, roles: list[str], seed: int) -> dict[str, Any]:
    units = [unit_of(one.plan.task, one.graded) for one in (run, other)]
    unit = POINTS if POINTS in units else units[0]
    task = run.plan.task.name
    here = estimates.means_by_item(scores(run.graded, unit))
    there = estimates.means_by_item(scores(other.graded, unit))
    found = estimates.paired_difference(here, there, estimates.seed_of(task, seed))
    return {
        "task": task,
        "group": run.plan.task.group,
        "name": run.plan.model.name,
        "iteration": run.plan.model.iteration,
        "against": other.plan.model.name,
        "against_iteration": other.plan.model.iteration,
        "roles": roles,
        "unit": unit,
        "score": estimates.mean(list(here.values())),
        "against_score": estimates.mean(list(there.values())),
        "difference": found.difference,
        "stderr": found.stderr,
        "interval": None if found.interval is None else list(found.interval),
        "p_value": found.p_value,
        "num_items": found.num_items,
        "num_only_here": len(found.only_in_first),
        "only_here": list(found.only_in_first[: estimates.MAX_NAMED]),
        "num_only_there": len(found.only_in_second),
        "only_there": list(found.only_in_second[: estimates.MAX_NAMED]),
        "unlike": _unlike(run, other),
        "seed": seed,
    }


def _unlike(run: GradedPlan, other: GradedPlan) -> list[str]:
    """Return what beside the model differs, so that the difference may not be the model's alone."""
    read: dict[str, Callable[[GradedPlan], Any]] = {
        "grader": lambda one: one.grader,
        "quirks": lambda one: one.plan.task.quirks,
        "prompts": lambda one: one.plan.prompt_fingerprint,
        "engine": lambda one: sorted({tuple(sorted(answer.engine.items())) for answer in one.graded}),
    }
    names = [name for name, value in read.items() if value(run) != value(other)]
    first, second = asdict(run.plan.sampling), asdict(other.plan.sampling)
    return names + [f"sampling.{name}" for name in sorted(first) if first[name] != second.get(name)]
