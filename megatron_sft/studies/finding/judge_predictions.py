"""One prediction on one arm (or pair) and benchmark: what the figures say, with the sentence that says it."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from megatron_sft.studies.analysis.comparisons import Differences, compare_groups
from megatron_sft.studies.analysis.curve import Curve
from megatron_sft.studies.analysis.lengths import Turn, turning_point
from megatron_sft.studies.analysis.shape import Shape
from megatron_sft.studies.claims import (
    GROUPS,
    AsymmetrySpec,
    ChangeSpec,
    DifferenceSpec,
    GroupsSpec,
    LengthsSpec,
    Of,
    OrderSpec,
    PredictionSpec,
    ShapeSpec,
    Sign,
)
from megatron_sft.studies.finding.findings import Outcome, Trajectory
from megatron_sft.studies.finding.material import Material
from megatron_sft.studies.finding.trajectories import harm_asymmetry, judged_shape, margin_of
from megatron_sft.studies.study import Study

SURE = 0.95
"""Share of the resamples from which an order of two turns counts as shown."""
FACTS: dict[str, tuple[bool | None, str | None]] = {
    "dip and recovery": (True, "above"),
    "dip, end open": (True, None),
    "monotone gain": (False, "above"),
    "gain": (None, "above"),
    "decline": (None, "below"),
    "flat": (False, "at base"),
    "not resolved": (None, None),
}
"""What a verdict states: whether there is a dip, and where the curve ends; None: nothing."""


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What the figures say of one cell."""

    outcome: Outcome
    text: str


Judge: TypeAlias = Callable[[float], Judgement]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Where a prediction is looked at."""

    arms: tuple[str, ...]
    benchmark: str
    label: str
    judge: Judge | None
    """Takes the confidence of its interval; None without figures."""
    remark: str = "no figures"
    """Why there is no judge."""


def cells_of(prediction: PredictionSpec, material: Material) -> Iterator[Cell]:
    """Yield the cells of a prediction, those without figures too."""
    for spec in prediction.kinds().values():
        match spec:
            case ShapeSpec():
                yield from _shapes(spec, material)
            case ChangeSpec():
                yield from _changes(spec, material)
            case DifferenceSpec():
                for first, second in zip(spec.first, spec.second, strict=True):
                    yield from _differences(first, second, spec.benchmarks, spec.sign, spec.of, spec.at, material)
            case OrderSpec():
                for first, second in itertools.pairwise(spec.arms):
                    yield from _differences(first, second, spec.benchmarks, "above", spec.of, "last step", material)
            case GroupsSpec():
                yield from _groups(spec, material)
            case LengthsSpec():
                yield from _lengths(spec, material)
            case AsymmetrySpec():
                yield from _asymmetries(spec, material)


def _each(
    arms: Iterable[str], benchmarks: Iterable[str], material: Material
) -> Iterator[tuple[str, str, str, Trajectory | None]]:
    for arm in arms:
        for benchmark in benchmarks:
            label = f"{arm}, {title_of(material.study, benchmark)}"
            yield arm, benchmark, label, material.trajectories.get((arm, benchmark))


def _shapes(spec: ShapeSpec, material: Material) -> Iterator[Cell]:
    for arm, benchmark, label, found in _each(spec.arms, spec.benchmarks, material):
        judge = None
        if found is not None and found.shape is not None:
            judge = _shape_judge(spec, found, material.margin)
        steps = (
            "" if found is None else f"no step between base and step {found.curve.steps[-1]}, so that there is no shape"
        )
        remark = steps or material.remark([arm], benchmark)
        yield Cell(arms=(arm,), benchmark=benchmark, label=label, judge=judge, remark=remark)


def _shape_judge(spec: ShapeSpec, trajectory: Trajectory, margin: float) -> Judge:
    def judge(confidence: float) -> Judgement:
        shape = judged_shape(trajectory, margin=margin, confidence=confidence)
        assert shape is not None
        outcomes = list(shape_outcomes(spec, shape))
        outcome: Outcome = "holds" if set(outcomes) == {"holds"} else "fails" if "fails" in outcomes else "open"
        return Judgement(outcome=outcome, text=shape_text(trajectory, shape))

    return judge


def shape_outcomes(spec: ShapeSpec, shape: Shape) -> Iterator[Outcome]:
    """Yield what a shape says of each thing that is predicted of it."""
    if spec.verdicts:
        found = [_agreement(FACTS[name], FACTS[shape.verdict.value]) for name in spec.verdicts]
        yield "holds" if "holds" in found else "open" if "open" in found else "fails"
    if spec.lowest_between:
        first, last = spec.lowest_between
        inside = [first <= step <= last for step in shape.dip.possible_steps]
        yield "holds" if all(inside) else "open" if any(inside) else "fails"
    if spec.above_base_by is not None:
        latest, earliest = shape.recovery.latest, shape.recovery.earliest
        if latest is not None and latest <= spec.above_base_by:
            yield "holds"
        else:
            yield "fails" if earliest is None or earliest > spec.above_base_by else "open"
    if spec.late_fall is not None:
        low, high = shape.late_fall
        shown: bool | None = True if low > 0 else False if high < shape.margin else None
        yield "open" if shown is None else "holds" if shown == spec.late_fall else "fails"


def _agreement(expected: tuple[bool | None, str | None], found: tuple[bool | None, str | None]) -> Outcome:
    pairs = [(e, f) for e, f in zip(expected, found, strict=True) if e is not None]
    if all(e == f for e, f in pairs):
        return "holds"
    return "fails" if any(f is not None and e != f for e, f in pairs) else "open"


def shape_text(trajectory: Trajectory, shape: Shape) -> str:
    """Say what a shape is: verdict, dip and end."""
    dip, (low, high) = shape.dip, shape.final_interval
    lowest = f"lowest at step {dip.step}, {dip.depth:.1f} below base" if dip.step is not None else "never below base"
    fall = shape.late_fall
    end = f", late fall {fall[0]:.1f} to {fall[1]:.1f}" if fall[0] > 0 else ""
    worse = " (turned so that higher is better)" if trajectory.better == "lower" else ""
    return (
        f"{shape.verdict.value}; {lowest} ({dip.interval[0]:.1f} to {dip.interval[1]:.1f}); at the last step, "
        f"{trajectory.curve.steps[-1]}, {shape.final_gain:+.1f} ({low:+.1f} to {high:+.1f}){end}{worse}"
    )


def _changes(spec: ChangeSpec, material: Material) -> Iterator[Cell]:
    for arm, benchmark, label, found in _each(spec.arms, spec.benchmarks, material):
        step = None if found is None else spec.step or found.curve.steps[-1]
        judge = None
        if found is not None and step in found.curve.steps:
            judge = _change_judge(spec.sign, found, found.curve.steps.index(step), margin_of(found, material.margin))
        yield Cell(arms=(arm,), benchmark=benchmark, label=label, judge=judge, remark=material.remark([arm], benchmark))


def _change_judge(sign: Sign, trajectory: Trajectory, row: int, margin: float) -> Judge:
    def judge(confidence: float) -> Judgement:
        found = trajectory.change_at(row, confidence)
        text = f"change from base at step {trajectory.curve.steps[row]} {interval_text(*found, trajectory.unit)}"
        return Judgement(outcome=sign_outcome(sign, [found[1]], [found[2]], margin), text=text)

    return judge


def sign_outcome(sign: Sign, lower: Iterable[float], upper: Iterable[float], margin: float) -> Outcome:
    """Judge intervals that hold together: `above` holds if one lies above 0 and none below it.

    `not above` holds if all exclude the margin and more, and fails if one lies above 0.
    """
    lows, highs = list(lower), list(upper)
    if sign in ("below", "not below"):
        lows, highs = [-high for high in highs], [-low for low in lows]
    above, below = any(low > 0 for low in lows), any(high < 0 for high in highs)
    if sign in ("above", "below"):
        return "open" if above == below else "holds" if above else "fails"
    return "fails" if above else "holds" if max(highs) < margin else "open"


def _differences(
    first: str, second: str, benchmarks: Iterable[str], sign: Sign, of: Of, at: str, material: Material
) -> Iterator[Cell]:
    for benchmark in benchmarks:
        pairs = (material.last_steps if at == "last step" else material.equal_steps)(first, second, benchmark)
        judge = None
        if material.can_compare(first, second, benchmark, pairs, of):
            judge = _difference_judge(first, second, benchmark, pairs, sign, of, material)
        label = f"{first} minus {second}, {title_of(material.study, benchmark)}"
        remark = "no lengths" if of == "length" else material.remark([first, second], benchmark)
        yield Cell(arms=(first, second), benchmark=benchmark, label=label, judge=judge, remark=remark)


def _difference_judge(
    first: str, second: str, benchmark: str, pairs: list[tuple[int, int]], sign: Sign, of: Of, material: Material
) -> Judge:
    points = benchmark not in GROUPS and material.study.benchmark_of(benchmark).unit == "points"
    unit = "tokens" if of == "length" else "points" if points else "per cent"
    trajectory = material.trajectories.get((first, benchmark))
    margin = material.margin if trajectory is None else margin_of(trajectory, material.margin)

    def judge(confidence: float) -> Judgement:
        found = material.difference(first, second, benchmark, pairs, of, confidence=confidence)
        assert found is not None
        steps = [f"{a}" if a == b else f"{a} and {b}" for a, b in pairs]
        return Judgement(
            outcome=sign_outcome(sign, found.lower, found.upper, margin),
            text=f"{'' if of == 'score' else f'{of}, '}{steps_text(found, steps, unit)}",
        )

    return judge


def steps_text(found: Differences, steps: list[str], unit: str) -> str:
    """Say a difference at each of some steps."""
    values = zip(steps, found.estimate, found.lower, found.upper, strict=True)
    return "; ".join(f"step {step} {interval_text(mean, low, high, unit)}" for step, mean, low, high in values)


def interval_text(mean: float, low: float, high: float, unit: str) -> str:
    """Say a change with its interval."""
    digits = {"points": 2, "tokens": 0}.get(unit, 1)
    return f"{mean:+.{digits}f} ({low:+.{digits}f} to {high:+.{digits}f})"


def _groups(spec: GroupsSpec, material: Material) -> Iterator[Cell]:
    for arm in spec.arms:
        first, second = (material.trajectories.get((arm, name)) for name in (spec.first, spec.second))
        steps: list[int] = []
        if first is not None and second is not None:
            low, high = spec.between or (1, first.curve.steps[-1])
            steps = [s for s in first.curve.steps[1:] if s in second.curve.steps and low <= s <= high]
        label = f"{arm}, change of {title_of(material.study, spec.first)} minus {title_of(material.study, spec.second)}"
        judge = None
        if first is not None and second is not None and steps:
            judge = _groups_judge(first, second, steps, spec.sign, material.margin)
        yield Cell(arms=(arm,), benchmark=spec.first, label=label, judge=judge)


def _groups_judge(first: Trajectory, second: Trajectory, steps: list[int], sign: Sign, margin: float) -> Judge:
    def judge(confidence: float) -> Judgement:
        found = compare_groups(first.curve, second.curve, steps, confidence=confidence)
        outcome = sign_outcome(sign, found.lower, found.upper, margin)
        return Judgement(outcome=outcome, text=steps_text(found, [str(step) for step in steps], first.unit))

    return judge


def _lengths(spec: LengthsSpec, material: Material) -> Iterator[Cell]:
    for arm, benchmark, label, found in _each(spec.arms, spec.benchmarks, material):
        has_order = found is not None and found.order is not None
        judge = None
        if found is not None and found.lengths is not None and (has_order or not spec.against_dip):
            judge = _lengths_judge(spec, found, found.lengths.curve)
        yield Cell(arms=(arm,), benchmark=benchmark, label=label, judge=judge, remark="no lengths by step")


def _lengths_judge(spec: LengthsSpec, trajectory: Trajectory, curve: Curve) -> Judge:
    def judge(confidence: float) -> Judgement:
        found = turning_point(curve, confidence=confidence)
        turn = found.turn.value
        if turn == spec.turn:
            outcome: Outcome = "holds"
        else:
            # A rise excludes that the last one is below base, not that an earlier one was above the last.
            contrary = {Turn.RISE: Turn.FALL, Turn.FALL: Turn.RISE}.get(found.turn)
            outcome = "fails" if contrary is not None and contrary.value == spec.turn else "open"
            if spec.turn == "rise and fall" and (found.rise[1] == 0 or found.fall[1] == 0):
                outcome = "fails"
        text = (
            f"{turn}; longest at step {found.step}, rise {found.rise[0]:.0f} to {found.rise[1]:.0f} tokens, fall "
            f"from a step to the last one {found.fall[0]:.0f} to {found.fall[1]:.0f}"
        )
        order = trajectory.order
        if order is not None:
            shares = {
                "length first": order.length_first,
                "same step": order.same_step,
                "score first": order.score_first,
            }
            text += "; " + ", ".join(f"{name} in {100 * share:.0f} %" for name, share in shares.items())
            if spec.against_dip and outcome != "fails":
                # So many shares are looked at as there are cells, as with the intervals.
                sure = max(SURE, confidence)
                shown = [name for name, share in shares.items() if share >= sure]
                if shown and shown != [spec.against_dip]:
                    outcome = "fails"
                elif not shown:
                    outcome = "open"
        return Judgement(outcome=outcome, text=text)

    return judge


def _asymmetries(spec: AsymmetrySpec, material: Material) -> Iterator[Cell]:
    for arm in spec.arms:
        reasoning, harm = (material.trajectories.get((arm, name)) for name in (spec.reasoning, spec.harm))
        judge = None
        if reasoning is not None and harm is not None and set(reasoning.curve.steps[1:]) & set(harm.curve.steps[1:]):
            judge = _asymmetry_judge(spec, reasoning, harm)
        label = f"{arm}, {title_of(material.study, spec.reasoning)} and {title_of(material.study, spec.harm)}"
        remark = material.remark([arm], spec.harm)
        yield Cell(arms=(arm,), benchmark=spec.harm, label=label, judge=judge, remark=remark)


def _asymmetry_judge(spec: AsymmetrySpec, reasoning: Trajectory, harm: Trajectory) -> Judge:
    def judge(confidence: float) -> Judgement:
        found = harm_asymmetry(reasoning, harm, confidence=confidence).asymmetry
        pairs = list(zip(found.verdict.split(", "), spec.verdict.split(", "), strict=True))
        if all(seen == expected for seen, expected in pairs):
            outcome: Outcome = "holds"
        else:
            resolved = [(seen, expected) for seen, expected in pairs if "not resolved" not in seen]
            outcome = "fails" if any(seen != expected for seen, expected in resolved) else "open"
        gain, loss = found.gain, found.harm
        return Judgement(
            outcome=outcome,
            text=(
                f"{found.verdict}; at step {gain.steps[-1]} reasoning "
                f"{interval_text(gain.estimate[-1], gain.lower[-1], gain.upper[-1], reasoning.unit)}, harm "
                f"{interval_text(loss.estimate[-1], loss.lower[-1], loss.upper[-1], harm.unit)}"
            ),
        )

    return judge


def title_of(study: Study, column: str) -> str:
    """Name a column or group for people."""
    if column in GROUPS:
        return column
    title = study.benchmark_of(column).title
    return f"{title}, {column.split('/')[1]}" if "/" in column else title
