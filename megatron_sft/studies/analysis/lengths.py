"""How long responses are over the steps, where lengths end at a budget, and where the curve turns.

A response that was cut off would have been longer: its length is right-censored. So lengths are described by what the
cut does not reach: the median, or, where at any step half of the responses or more are cut off, the mean of the lengths
up to the budget (restricted mean). Both come from the estimator of Kaplan and Meier ("Nonparametric estimation from
incomplete observations", JASA 1958), which also takes responses that were cut at different lengths. Where all are cut
at one budget it is the plain median and the plain mean of what was generated.

Shapes: B draws, S steps, I items, K samples, M different lengths.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from megatron_sft.studies.analysis.curve import (
    CONFIDENCE,
    NUM_DRAWS,
    Curve,
    Values,
    from_draws,
    resample_counts,
)

CHUNK_VALUES = 4_000_000
"""Weights of drawn responses held at a time."""
Flags = npt.NDArray[np.bool_]


class Turn(StrEnum):
    """What a curve of lengths shows."""

    RISE_AND_FALL = "rise and fall"
    """A step above base that is also above the last one."""
    RISE = "rise"
    """The last step is above base."""
    FALL = "fall"
    """The last step is below base."""
    NOT_RESOLVED = "not resolved"
    """None of these can be told from noise."""


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """Lengths over the steps."""

    curve: Curve
    """Of the statistic, in tokens."""
    statistic: str
    """`median` or `restricted mean`, the same at all steps."""
    limit: float
    """Tokens up to which the restricted mean looks."""
    share_cut: Values
    """[S] share of the responses that were cut off."""


@dataclass(frozen=True, kw_only=True)
class TurningPoint:
    """Where lengths turn; intervals hold for all steps at once."""

    turn: Turn
    step: int
    """Of the greatest length, base included."""
    possible_steps: tuple[int, ...]
    """Steps after base that can be the longest, from the simultaneous band."""
    rise: tuple[float, float]
    """Interval of the largest rise over base, in tokens, at least 0."""
    fall: tuple[float, float]
    """Interval of the largest fall from a step to the last one, in tokens, at least 0."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """Which comes first in the resamples: the greatest length or the lowest score."""

    length_first: float
    """Share of the resamples; the three sum to 1."""
    same_step: float
    score_first: float


def lengths_of(
    steps: Sequence[int],
    lengths: npt.ArrayLike,
    cut: npt.ArrayLike,
    seed: int,
    *,
    num_draws: int = NUM_DRAWS,
) -> Lengths:
    """Describe the lengths at every step by one statistic, with the items drawn anew.

    Args:
        steps: [S], rising, the first one 0.
        lengths: [S, I, K] generated tokens.
        cut: [S, I, K], whether the budget ended the response.
        seed: of the resamples: with the seed of `from_items` the same items are drawn as for the scores.
        num_draws: B.

    Raises:
        ValueError: for other shapes, or lengths that are missing.
    """
    tokens, flags = np.asarray(lengths, dtype=np.float64), np.asarray(cut, dtype=bool)
    if tokens.ndim != 3 or tokens.shape != flags.shape or len(steps) != len(tokens) or np.isnan(tokens).any():
        raise ValueError(f"lengths {tokens.shape} and cut {flags.shape}: both must be [steps, items, samples], whole")
    num_items, num_samples = tokens.shape[1:]
    share_cut = flags.mean(axis=(1, 2))
    # What lies beyond the longest response of a step is unknown when that one was cut.
    ends = [float(t.max()) for t, f in zip(tokens, flags, strict=True) if f[t == t.max()].any()]
    limit = min(ends, default=float(tokens.max()))
    use_median = bool((share_cut < 0.5).all())
    counts = np.vstack([np.ones(num_items), resample_counts(num_items, seed, num_draws)])
    values = np.empty((num_draws + 1, len(tokens)))
    num_rows = max(1, CHUNK_VALUES // (num_items * num_samples))
    for step, (t, f) in enumerate(zip(tokens, flags, strict=True)):
        for start in range(0, num_draws + 1, num_rows):
            weights = np.repeat(counts[start : start + num_rows], num_samples, axis=1)
            drawn = statistic(t.ravel(), f.ravel(), weights, None if use_median else limit)
            values[start : start + num_rows, step] = drawn
    # A resample of a step that was cut nearly to the half can have no median: it is then at least the limit.
    values = np.where(np.isnan(values), limit, values)
    return Lengths(
        curve=from_draws(steps, values[0], values[1:], num_items=num_items),
        statistic="median" if use_median else "restricted mean",
        limit=limit,
        share_cut=share_cut,
    )


def statistic(times: Values, cut: Flags, weights: Values, limit: float | None) -> Values:
    """Return the median [B], or with a limit the restricted mean: see `survival`, whose result for one budget is plain.

    Args:
        times: [N]
        cut: [N]
        weights: [B, N], how often each response counts.
        limit: at most the longest cut response.
    """
    if times[cut].min(initial=times.max()) < times.max():
        found = survival(times, cut, weights)
        return median(*found) if limit is None else restricted_mean(*found, limit)
    totals = weights.sum(axis=1)
    if limit is not None:
        return np.asarray(weights @ np.minimum(times, limit) / totals)
    order = np.argsort(times, kind="stable")
    reached = np.cumsum(weights[:, order], axis=1) >= (0.5 - 1e-12) * totals[:, None]
    # Of more than half nothing is known but that they are longer.
    known = weights @ cut.astype(np.float64) <= (0.5 + 1e-12) * totals
    return np.where(known, times[order][reached.argmax(axis=1)], np.nan)


def survival(times: Values, cut: Flags, weights: Values) -> tuple[Values, Values]:
    """Return lengths [M] at which responses ended by themselves, and the share [B, M] that is longer than each.

    Args:
        times: [N]
        cut: [N]
        weights: [B, N], how often each response counts.
    """
    order = np.argsort(times, kind="stable")
    ordered = times[order]
    ends, first = np.unique(ordered, return_index=True)
    drawn = weights[:, order]
    total = np.add.reduceat(drawn, first, axis=1)
    finished = np.add.reduceat(drawn * ~cut[order], first, axis=1)
    at_risk = np.cumsum(total[:, ::-1], axis=1)[:, ::-1]
    # Nobody is left: the share stays what it was.
    hazard = np.divide(finished, at_risk, out=np.zeros_like(finished), where=at_risk > 0)
    return ends, np.cumprod(1.0 - hazard, axis=1)


def median(ends: Values, longer: Values) -> Values:
    """Return the length [B] that half of the responses do not exceed; nan where more than half were cut before it."""
    reached = longer <= 0.5 + 1e-12
    return np.where(reached.any(axis=1), ends[reached.argmax(axis=1)], np.nan)


def restricted_mean(ends: Values, longer: Values, limit: float) -> Values:
    """Return the mean [B] of the lengths when those beyond `limit` count as `limit`: the area under the curve."""
    edges = np.minimum(np.concatenate([[0.0], ends, [max(limit, ends[-1])]]), limit)
    heights = np.concatenate([np.ones((len(longer), 1)), longer], axis=1)
    return np.asarray(heights @ np.diff(edges))


def turning_point(curve: Curve, *, confidence: float = CONFIDENCE) -> TurningPoint:
    """Say whether a curve of lengths rises and falls, and where it turns."""
    num = len(curve.steps) - 1
    low, high = curve.contrasts.band(confidence)
    lower, upper, last_lower, last_upper = low[:num], high[:num], low[num:], high[num:]
    peaks = (lower[:-1] > 0) & (last_upper < 0)
    if peaks.any():
        turn = Turn.RISE_AND_FALL
    elif lower[-1] > 0:
        turn = Turn.RISE
    else:
        turn = Turn.FALL if upper[-1] < 0 else Turn.NOT_RESOLVED
    return TurningPoint(
        turn=turn,
        step=curve.steps[int(curve.means.argmax())],
        possible_steps=tuple(step for step, top in zip(curve.steps[1:], upper, strict=True) if top >= lower.max()),
        rise=(max(0.0, float(lower.max())), max(0.0, float(upper.max()))),
        fall=(max([0.0, *map(float, -last_upper)]), max([0.0, *map(float, -last_lower)])),
    )


def order_of_turns(lengths: Curve, scores: Curve) -> Order:
    """Compare the step of the greatest length with that of the lowest score, resample by resample.

    Raises:
        ValueError: for curves at different steps or with different numbers of draws.
    """
    if lengths.steps != scores.steps or lengths.draws.shape != scores.draws.shape:
        raise ValueError("order_of_turns: both curves need the same steps and the same resamples")
    longest, lowest = lengths.draws.argmax(axis=1), scores.draws.argmin(axis=1)
    return Order(
        length_first=float((longest < lowest).mean()),
        same_step=float((longest == lowest).mean()),
        score_first=float((longest > lowest).mean()),
    )
