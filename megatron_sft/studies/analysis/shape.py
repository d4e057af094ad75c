"""The shape of a curve: dip, recovery, gain, decline, each with an interval, and a verdict with a stated error rate.

docs/study-analysis.md has the rule in words and formulas. Everything that is called resolved here holds for every curve
inside the simultaneous band of `Contrasts`, so at most 5 % of studies state anything false.
"""

from dataclasses import dataclass
from enum import StrEnum
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from megatron_sft.studies.analysis.curve import CONFIDENCE, Curve, Values
from megatron_sft.studies.analysis.few_items import tails, widened

POWER = 0.8


class Verdict(StrEnum):
    """What a curve shows."""

    DIP_AND_RECOVERY = "dip and recovery"
    """Below base at a step, above base at the last one."""
    DIP = "dip, end open"
    """Below base at a step; the last one is not told from base."""
    MONOTONE_GAIN = "monotone gain"
    """Above base at the last step; no step is further than the margin below base or above the last one."""
    GAIN = "gain"
    """Above base at the last step; a dip or a late fall of more than the margin is not excluded."""
    DECLINE = "decline"
    """Below base at the last step."""
    FLAT = "flat"
    """No step is further than the margin from base."""
    NOT_RESOLVED = "not resolved"
    """None of these can be told from noise."""


@dataclass(frozen=True, kw_only=True)
class Dip:
    """How far the curve falls below base."""

    depth: float
    """Base minus the lowest score, 0 where none is below base. Too large on average: of several noisy points the
    lowest is taken."""
    corrected_depth: float
    """The same less the bootstrap's estimate of that bias, at least 0."""
    interval: tuple[float, float]
    """Of the true depth, from the simultaneous band. Above 0: the dip is resolved."""
    step: int | None
    """Where the lowest score is; None where none is below base."""
    possible_steps: tuple[int, ...]
    """Steps after base that can be the lowest of them; all of them where nothing is resolved."""
    step_shares: tuple[float, ...]
    """For each step after base: share of the resamples in which it is the lowest one."""
    is_resolved: bool
    """A step is below base."""
    rise_is_resolved: bool
    """A step that is below base is also below the last one."""


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """The first step from which the score stays at or above base."""

    step: int | None
    """None where the last score is below base. Without a dip the first step after base."""
    earliest: int | None
    """The first step from which no later one is resolved to be below base; None where the last one is."""
    latest: int | None
    """The first step from which all are resolved to be above base; None where the last one is not."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What a curve shows."""

    verdict: Verdict
    dip: Dip
    recovery: Recovery
    final_gain: float
    """Last score minus base."""
    final_interval: tuple[float, float]
    """Of the final gain alone: percentile interval."""
    lower: Values
    """[S - 1] simultaneous band of the change from base."""
    upper: Values
    """[S - 1]"""
    late_fall: tuple[float, float]
    """Simultaneous interval of the largest fall from a step to the last one. Above 0: it is resolved."""
    detectable: float
    """Change of one step from base that would be resolved with a probability of 80 %: (critical value + 0.84) times the
    median standard error of the changes."""
    margin: float
    """As given."""
    confidence: float
    """As given."""


def shape_of(curve: Curve, *, margin: float, confidence: float = CONFIDENCE) -> Shape:
    """Judge a curve on which higher is better.

    Args:
        curve: scores over steps.
        margin: in the score's unit: what is smaller does not matter. It decides over "monotone gain" and "flat" only.
        confidence: that everything stated about this curve is true.
    """
    num = len(curve.steps) - 1
    low, high = curve.contrasts.band(confidence)
    lower, upper, last_lower, last_upper = low[:num], high[:num], low[num:], high[num:]
    final = np.quantile(curve.contrasts.draws[:, num - 1], tails(confidence, curve.num_items))
    fall = (max([0.0, *(-last_upper)]), max([0.0, *(-last_lower)]))
    dip = _dip(curve, lower, upper, last_lower, confidence)
    critical = curve.contrasts.critical(confidence)
    return Shape(
        verdict=_verdict(lower, upper, dip, fall[1], margin),
        dip=dip,
        recovery=_recovery(curve, lower, upper),
        final_gain=float(curve.changes[-1]),
        final_interval=(float(final[0]), float(final[1])),
        lower=lower,
        upper=upper,
        late_fall=(float(fall[0]), float(fall[1])),
        detectable=(critical + NormalDist().inv_cdf(POWER)) * float(np.median(curve.contrasts.stderr[:num])),
        margin=margin,
        confidence=confidence,
    )


def _verdict(lower: Values, upper: Values, dip: Dip, largest_fall: float, margin: float) -> Verdict:
    if upper[-1] < 0:
        return Verdict.DECLINE
    if lower[-1] > 0:
        if dip.is_resolved:
            return Verdict.DIP_AND_RECOVERY
        excluded = dip.interval[1] < margin and largest_fall < margin
        return Verdict.MONOTONE_GAIN if excluded else Verdict.GAIN
    if dip.is_resolved:
        return Verdict.DIP
    if lower.min() > -margin and upper.max() < margin:
        return Verdict.FLAT
    return Verdict.NOT_RESOLVED


def _dip(curve: Curve, lower: Values, upper: Values, last_lower: Values, confidence: float) -> Dip:
    changes, num = curve.changes, len(curve.changes)
    depth = max(0.0, float(-changes.min()))
    drawn = curve.contrasts.draws[:, :num]
    lowest = np.bincount(drawn.argmin(axis=1), minlength=num) / len(drawn)
    bias = float(np.maximum(-drawn.min(axis=1), 0.0).mean()) - depth
    below = upper < 0
    return Dip(
        depth=depth,
        corrected_depth=max(0.0, depth - bias),
        interval=(max(0.0, float(-upper.min())), max(0.0, float(-lower.min()))),
        step=curve.steps[1 + int(changes.argmin())] if depth > 0 else None,
        possible_steps=_possibly_lowest(curve, confidence),
        step_shares=tuple(float(share) for share in lowest),
        is_resolved=bool(below.any()),
        rise_is_resolved=bool((below[:-1] & (last_lower > 0)).any()),
    )


def _possibly_lowest(curve: Curve, confidence: float) -> tuple[int, ...]:
    """Steps after base that no other one is resolved to be below of, all pairs of them judged together."""
    after = curve.draws[:, 1:]
    estimate = curve.means[1:, None] - curve.means[None, 1:]
    offsets = after[:, :, None] - after[:, None, :] - estimate
    stderr = np.std(offsets, axis=0)
    t_values = np.divide(offsets, stderr, out=np.zeros_like(offsets), where=stderr > 0)
    critical = widened(float(np.quantile(t_values.max(axis=(1, 2)), confidence)), curve.num_items)
    is_above_another = (estimate > critical * stderr).any(axis=1)
    return tuple(step for step, above in zip(curve.steps[1:], is_above_another, strict=True) if not above)


def _recovery(curve: Curve, lower: Values, upper: Values) -> Recovery:
    return Recovery(
        step=_first_from_which(curve, curve.changes >= 0),
        earliest=_first_from_which(curve, upper >= 0),
        latest=_first_from_which(curve, lower > 0),
    )


def _first_from_which(curve: Curve, holds: npt.NDArray[np.bool_]) -> int | None:
    """The first step after base from which something holds until the end."""
    from_here = np.logical_and.accumulate(holds[::-1])[::-1]
    return curve.steps[1 + int(from_here.argmax())] if from_here.any() else None
