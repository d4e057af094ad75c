"""A score at several steps of training, with what another choice of items could have made of it.

Shapes: B draws, S steps (the first one is the base model, step 0), I items, C contrasts (differences of two steps).

The contrasts are each step minus base, then the last step minus each one between: what a verdict speaks about. All of
them are judged together by the bootstrap's max-t distribution (Westfall and Young, "Resampling-Based Multiple Testing",
1993, chapter 2; studentised as in Davison and Hinkley, "Bootstrap Methods and their Application", 1997, section 5.2):
the band holds for all contrasts at once, so also for the one that was picked since it is the lowest.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from statistics import NormalDist
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from megatron_sft.studies.analysis.few_items import effective_items, tails, widened

Values: TypeAlias = npt.NDArray[np.float64]
Indices: TypeAlias = npt.NDArray[np.int64]

NUM_DRAWS = 2_000
CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class Contrasts:
    """Differences of two steps."""

    later: Indices
    """[C] index of the step whose score is taken."""
    earlier: Indices
    """[C] index of the step whose score is taken from it."""
    estimate: Values
    """[C]"""
    stderr: Values
    """[C], above 0."""
    draws: Values
    """[B, C] the differences in the resamples."""
    max_t: Values
    """[B] largest |difference in the resample - estimate| / standard error over the contrasts."""
    num_items: float | None
    """Where the standard error is the same in all draws: see `few_items`."""

    def critical(self, confidence: float = CONFIDENCE) -> float:
        """Half width, in standard errors, of the band that holds all contrasts at once.

        At least that of one contrast: where no item differs at any step, no resample differs either.
        """
        one = NormalDist().inv_cdf((1 + confidence) / 2)
        return widened(max(one, float(np.quantile(self.max_t, confidence))), self.num_items)

    def band(self, confidence: float = CONFIDENCE) -> tuple[Values, Values]:
        """Lower and upper ends [C] of the simultaneous band."""
        half = self.critical(confidence) * self.stderr
        return self.estimate - half, self.estimate + half


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A trajectory."""

    steps: tuple[int, ...]
    """[S] rising, from 0."""
    means: Values
    """[S]"""
    stderr: Values
    """[S]"""
    draws: Values
    """[B, S] the means in the resamples."""
    contrasts: Contrasts
    """See the module."""
    num_items: float | None
    """For averages as many as are worth the same, see `few_items`; None where the draws' distribution was given."""

    def band(self, confidence: float = CONFIDENCE) -> tuple[Values, Values]:
        """Lower and upper ends [S] of each mean's own percentile interval."""
        low, high = np.quantile(self.draws, tails(confidence, self.num_items), axis=0)
        return low, high

    @property
    def changes(self) -> Values:
        """[S - 1] each step minus base."""
        return self.contrasts.estimate[: len(self.steps) - 1]


def contrast_indices(num_steps: int) -> tuple[Indices, Indices]:
    """Return (later, earlier) [C]: each step against base, then the last step against each one between."""
    steps = np.arange(1, num_steps)
    last = np.full(max(num_steps - 2, 0), num_steps - 1)
    return np.concatenate([steps, last]), np.concatenate([np.zeros_like(steps), steps[:-1]])


@lru_cache(maxsize=1)
def resample_counts(num_items: int, seed: int, num_draws: int = NUM_DRAWS) -> Values:
    """Return how often each item is drawn in each resample, [B, I]; the same for the same seed, and not to be written.

    The last ones are kept: scores, lengths and form of a curve ask for the same.
    """
    generator = np.random.default_rng(seed)
    drawn = generator.integers(num_items, size=(num_draws, num_items), dtype=np.int64)
    drawn += np.arange(num_draws)[:, None] * num_items
    counts = np.bincount(drawn.ravel(), minlength=num_draws * num_items)
    drawn_counts = counts.reshape(num_draws, num_items).astype(np.float64)
    drawn_counts.flags.writeable = False
    return drawn_counts


def from_items(
    steps: Sequence[int], scores: npt.ArrayLike, seed: int, *, num_draws: int = NUM_DRAWS, span: float = 1.0
) -> Curve:
    """Return the curve of per-item scores, its items drawn anew together for all steps.

    Args:
        steps: [S], rising, the first one 0.
        scores: [S, I], each item's mean over its samples; nan where it is missing.
        seed: of the resamples.
        num_draws: B.
        span: the largest difference that one item can show: 1 for shares, 100 for per cent.

    Raises:
        ValueError: for steps that do not rise from 0, other shapes, or steps that share less than two items with base
            or the last step.
    """
    values = np.asarray(scores, dtype=np.float64)
    _check(steps, values)
    counts = resample_counts(values.shape[1], seed, num_draws)
    have = ~np.isnan(values)
    filled = np.where(have, values, 0.0)
    totals, _ = _sums(counts, filled, have)
    num = have.sum(axis=1)
    means = filled.sum(axis=1) / num
    spread = np.where(have, (filled - means[:, None]) ** 2, 0.0).sum(axis=1)
    return Curve(
        steps=tuple(int(step) for step in steps),
        means=means,
        stderr=np.sqrt(spread / np.maximum(num - 1, 1) / num),
        draws=totals,
        contrasts=_item_contrasts(counts, filled, have, span),
        num_items=values.shape[1],
    )


def item_contrasts(differences: Values, counts: Values, span: float) -> tuple[Values, Values, Values, Values]:
    """Return estimate [C], standard error [C], draws [B, C] and max-t [B] of the means of per-item differences.

    The standard error never falls below that of one item that differs by as much as any item does (by `span`, where
    none does): that no item differed among n is no proof that none ever does, and the band then reaches some 2 / n to
    3 / n, as the rule of three says.

    Args:
        differences: [C, I], nan where an item is missing.
        counts: [B, I] of `resample_counts`.
        span: see `from_items`.
    """
    have = ~np.isnan(differences)
    filled = np.where(have, differences, 0.0)
    num = have.sum(axis=1)
    estimate = filled.sum(axis=1) / num
    least = (float(np.abs(filled).max()) or span) / num
    centred = np.where(have, filled - estimate[:, None], 0.0)
    stderr = np.maximum(np.sqrt((centred**2).sum(axis=1) / (num - 1) / num), least)
    # Sums of centred values and of their squares in the resample give its mean and its standard error.
    offsets, drawn = _sums(counts, centred, have)
    squares, _ = _sums(counts, centred**2, have)
    variances = np.maximum(squares - offsets**2, 0.0) / np.maximum(drawn - 1, 1)
    t_values = np.abs(offsets) / np.maximum(np.sqrt(variances), least)
    return estimate, stderr, estimate + offsets, t_values.max(axis=1)


def from_means(
    steps: Sequence[int],
    means: npt.ArrayLike,
    stderr: npt.ArrayLike,
    seed: int,
    *,
    correlation: float = 0.0,
    num_draws: int = NUM_DRAWS,
) -> Curve:
    """Return the curve of means of which only the standard errors are known, its draws from a normal distribution.

    Args:
        steps: [S], rising, the first one 0.
        means: [S]
        stderr: [S], above 0.
        seed: of the draws.
        correlation: between the errors of any two steps. 0 forgets that they were measured on the same items, which
            makes differences look less sure than they are.
        num_draws: B.

    Raises:
        ValueError: for steps that do not rise from 0, or a standard error that is not above 0.
    """
    centre, errors = np.asarray(means, dtype=np.float64), np.asarray(stderr, dtype=np.float64)
    _check(steps, centre[:, None].repeat(2, axis=1))
    if errors.shape != centre.shape or not np.all(errors > 0) or not 0 <= correlation < 1:
        raise ValueError("from_means: one standard error above 0 for each mean, and a correlation from 0 to below 1")
    generator = np.random.default_rng(seed)
    common = generator.standard_normal((num_draws, 1))
    own = generator.standard_normal((num_draws, len(centre)))
    noise = errors * (math.sqrt(correlation) * common + math.sqrt(1 - correlation) * own)
    covariance = np.outer(errors, errors) * correlation
    np.fill_diagonal(covariance, errors**2)
    later, earlier = contrast_indices(len(centre))
    variance = covariance[later, later] + covariance[earlier, earlier] - 2 * covariance[later, earlier]
    return _assemble(steps, centre, errors, centre + noise, np.sqrt(variance), None)


def average(curves: Sequence[Curve]) -> Curve:
    """Return the mean over benchmarks, each with the same weight, at the steps that all have.

    The benchmarks' items are drawn independently of each other; the curves must have been resampled with different
    seeds. Standard errors are those of the draws, and never below those that the benchmarks' own make together: where
    no item of any of them differed, no draw does either.

    Raises:
        ValueError: without curves, with different numbers of draws, or with less than two steps in common.
    """
    if not curves or len({len(curve.draws) for curve in curves}) != 1:
        raise ValueError("average: curves with the same number of draws are needed")
    steps = sorted(set.intersection(*(set(curve.steps) for curve in curves)))
    at = [[curve.steps.index(step) for step in steps] for curve in curves]
    means = np.mean([curve.means[rows] for curve, rows in zip(curves, at, strict=True)], axis=0)
    draws = np.mean([curve.draws[:, rows] for curve, rows in zip(curves, at, strict=True)], axis=0)
    worth = effective_items((float(curve.contrasts.stderr[-1]) ** 2, curve.num_items) for curve in curves)
    return from_draws(steps, means, draws, num_items=worth, least=_least(curves, steps, worth))


def _least(curves: Sequence[Curve], steps: Sequence[int], worth: float | None) -> Values | None:
    """Standard errors [C] of the contrasts of a mean that those of its benchmarks make: sqrt(sum s^2) / number."""
    if worth is None:
        return None
    later, earlier = contrast_indices(len(steps))
    variance = np.zeros(len(later))
    for curve in curves:
        pairs = zip(curve.contrasts.later, curve.contrasts.earlier, curve.contrasts.stderr, strict=True)
        known = {(curve.steps[a], curve.steps[b]): float(stderr) for a, b, stderr in pairs}
        # A benchmark that goes on beyond the last common step has no contrasts with that one.
        variance += [known.get((steps[a], steps[b]), 0.0) ** 2 for a, b in zip(later, earlier, strict=True)]
    # `widened` will put n / (n - 1) back, which standard errors of items have.
    return np.sqrt(variance * (worth - 1) / worth) / len(curves)


def from_draws(
    steps: Sequence[int], means: Values, draws: Values, *, num_items: float | None, least: Values | None = None
) -> Curve:
    """Return the curve of any statistic [S] with its bootstrap draws [B, S]; standard errors are theirs.

    `num_items`: how many were drawn; None for draws from a known distribution. `least` [C]: what the standard errors of
    the contrasts are at least.
    """
    _check(steps, means[:, None].repeat(2, axis=1))
    later, earlier = contrast_indices(len(means))
    spread = np.std(draws[:, later] - draws[:, earlier], axis=0, ddof=1)
    if least is not None:
        spread = np.maximum(spread, least)
    return _assemble(steps, means, np.std(draws, axis=0, ddof=1), draws, spread, num_items)


def turned(curve: Curve) -> Curve:
    """Return the curve of the negative scores: higher is better where lower was."""
    contrasts = replace(curve.contrasts, estimate=-curve.contrasts.estimate, draws=-curve.contrasts.draws)
    return replace(curve, means=-curve.means, draws=-curve.draws, contrasts=contrasts)


def _assemble(
    steps: Sequence[int],
    means: Values,
    stderr: Values,
    draws: Values,
    contrast_stderr: Values,
    num_items: float | None,
) -> Curve:
    """A curve whose contrasts' standard errors are the same in all draws."""
    later, earlier = contrast_indices(len(means))
    estimate = means[later] - means[earlier]
    differences = draws[:, later] - draws[:, earlier]
    # A median may be the same in every resample: its contrast then has no width, and no say in the max-t.
    errors = np.maximum(contrast_stderr, np.finfo(np.float64).tiny)
    offsets = np.abs(differences - estimate)
    max_t = np.where(contrast_stderr > 0, offsets / errors, 0.0).max(axis=1)
    contrasts = Contrasts(
        later=later,
        earlier=earlier,
        estimate=estimate,
        stderr=errors,
        draws=differences,
        max_t=max_t,
        num_items=num_items,
    )
    return Curve(
        steps=tuple(int(step) for step in steps),
        means=means,
        stderr=stderr,
        draws=draws,
        contrasts=contrasts,
        num_items=num_items,
    )


def _item_contrasts(counts: Values, filled: Values, have: npt.NDArray[np.bool_], span: float) -> Contrasts:
    later, earlier = contrast_indices(len(filled))
    common = have[later] & have[earlier]
    if common.sum(axis=1).min() < 2:
        raise ValueError("from_items: every step must share at least two items with base and with the last step")
    differences = np.where(common, filled[later] - filled[earlier], np.nan)
    estimate, stderr, draws, max_t = item_contrasts(differences, counts, span)
    return Contrasts(
        later=later,
        earlier=earlier,
        estimate=estimate,
        stderr=stderr,
        draws=draws,
        max_t=max_t,
        num_items=None,
    )


def _sums(counts: Values, filled: Values, have: npt.NDArray[np.bool_]) -> tuple[Values, Values]:
    """Means over the drawn items that are there [B, rows], and how many there are [B, rows] or [rows]."""
    totals = counts @ filled.T
    if have.all():
        return totals / have.shape[1], np.full(len(filled), float(have.shape[1]))
    drawn = np.maximum(counts @ have.T.astype(np.float64), 1.0)
    return totals / drawn, drawn


def _check(steps: Sequence[int], values: Values) -> None:
    if values.ndim != 2 or len(steps) != len(values) or len(steps) < 2 or values.shape[1] < 2:
        raise ValueError(f"steps [{len(steps)}] and scores {values.shape}: at least two steps and two items are needed")
    if steps[0] != 0 or any(after <= before for before, after in itertools.pairwise(steps)):
        raise ValueError(f"steps {list(steps)}: they must rise from 0, the base model")
