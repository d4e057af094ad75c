"""Curves of arms on benchmarks as trajectories with their shape, and averages over groups of benchmarks."""

import dataclasses
import math
from collections.abc import Iterable, Sequence

from megatron_sft.studies.analysis.comparisons import asymmetry
from megatron_sft.studies.analysis.curve import CONFIDENCE, Curve, average, turned
from megatron_sft.studies.analysis.shape import Shape, shape_of
from megatron_sft.studies.claims import GROUPS
from megatron_sft.studies.finding.findings import ArmAsymmetry, Origin, Point, Trajectory
from megatron_sft.studies.study import Study

MIN_STEPS_OF_SHAPE = 3
"""Base, one step between, and the last one: of fewer nothing can be said of a dip."""
REASONING = ("in-domain", "out-of-domain")
HARM = "safety"


def make_trajectory(
    study: Study, arm: str, column: str, origin: Origin, curve: Curve, points: Iterable[Point], *, margin: float
) -> Trajectory:
    """Return one arm on one column; lengths and parts can be added."""
    benchmark = study.benchmark_of(column)
    bare = Trajectory(
        arm=arm,
        benchmark=column,
        group=benchmark.group,
        is_average=False,
        better=benchmark.better,
        unit=benchmark.unit,
        origin=origin,
        curve=curve,
        shape=None,
        points=tuple(points),
    )
    return dataclasses.replace(bare, shape=judged_shape(bare, margin=margin))


def judged_shape(trajectory: Trajectory, *, margin: float, confidence: float = CONFIDENCE) -> Shape | None:
    """Return the shape of a trajectory turned so that higher is better; None where steps are too few."""
    if len(trajectory.curve.steps) < MIN_STEPS_OF_SHAPE:
        return None
    own_margin = margin_of(trajectory, margin)
    return shape_of(better_is_higher(trajectory), margin=own_margin, confidence=confidence)


def better_is_higher(trajectory: Trajectory) -> Curve:
    """Return the curve, turned where lower is better."""
    return trajectory.curve if trajectory.better == "higher" else turned(trajectory.curve)


def margin_of(trajectory: Trajectory, margin: float) -> float:
    """Return a margin in points of a hundred in the trajectory's unit.

    Points of a reward model have no hundred: there it is the same share of the standard deviation of the base's items
    that it is of a coin's, 50.
    """
    curve = trajectory.curve
    if trajectory.unit == "per cent" or curve.num_items is None:
        return margin
    spread = float(curve.stderr[0]) * math.sqrt(curve.num_items)
    return margin / 50 * spread or margin


def group_members(study: Study, group: str) -> list[str]:
    """Return the benchmarks that a group's average is of: those in per cent, if all are better one way."""
    found = {name: one for name, one in study.benchmarks.items() if one.group == group and one.unit == "per cent"}
    return list(found) if len({one.better for one in found.values()}) == 1 else []


def averages(study: Study, trajectories: Sequence[Trajectory], *, margin: float) -> list[Trajectory]:
    """Return the averages over groups of one arm's trajectories of one origin: of those members that there are."""
    found = []
    for group in GROUPS:
        names = group_members(study, group)
        members = [one for one in trajectories if one.benchmark in names]
        if not members:
            continue
        common = set.intersection(*(set(one.curve.steps) for one in members))
        if len(common) < 2:
            continue
        bare = dataclasses.replace(
            members[0],
            benchmark=group,
            is_average=True,
            curve=average([one.curve for one in members]),
            shape=None,
            points=(),
            lengths=None,
            turning=None,
            order=None,
            parts=None,
            members=tuple(one.benchmark for one in members),
        )
        found.append(dataclasses.replace(bare, shape=judged_shape(bare, margin=margin)))
    return found


def asymmetries(trajectories: Sequence[Trajectory]) -> list[ArmAsymmetry]:
    """Return each reasoning group beside each safety benchmark, of one arm and origin."""
    harms = [one for one in trajectories if one.group == HARM and not one.is_average]
    return [
        harm_asymmetry(reasoning, harm)
        for reasoning in trajectories
        if reasoning.is_average and reasoning.benchmark in REASONING
        for harm in harms
        if len(set(reasoning.curve.steps) & set(harm.curve.steps)) > 1
    ]


def harm_asymmetry(reasoning: Trajectory, harm: Trajectory, *, confidence: float = CONFIDENCE) -> ArmAsymmetry:
    """Return a reasoning figure beside harm, which rises where safety falls."""
    curve = harm.curve if harm.better == "lower" else turned(harm.curve)
    return ArmAsymmetry(
        arm=reasoning.arm,
        reasoning=reasoning.benchmark,
        harm=harm.benchmark,
        origin=reasoning.origin,
        asymmetry=asymmetry(better_is_higher(reasoning), curve, confidence=confidence),
    )
