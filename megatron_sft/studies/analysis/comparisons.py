"""Differences between arms, between groups of benchmarks, and between what was gained and what was lost.

All bands hold for every step at once (max-t, as in `curve`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from megatron_sft.studies.analysis.curve import (
    CONFIDENCE,
    NUM_DRAWS,
    Curve,
    Values,
    item_contrasts,
    resample_counts,
)
from megatron_sft.studies.analysis.few_items import effective_items, widened


@dataclass(frozen=True, kw_only=True)
class Differences:
    """A difference at each of some steps [S]."""

    steps: tuple[int, ...]
    estimate: Values
    """[S]"""
    stderr: Values
    """[S]"""
    lower: Values
    """[S] simultaneous band."""
    upper: Values
    """[S]"""

    @property
    def above(self) -> tuple[int, ...]:
        """Steps at which the difference is resolved to be above 0."""
        return tuple(step for step, low in zip(self.steps, self.lower, strict=True) if low > 0)

    @property
    def below(self) -> tuple[int, ...]:
        """Steps at which the difference is resolved to be below 0."""
        return tuple(step for step, high in zip(self.steps, self.upper, strict=True) if high < 0)


@dataclass(frozen=True, kw_only=True)
class Asymmetry:
    """What was gained in reasoning beside what was lost in safety, both as changes from base."""

    gain: Differences
    """Rise of the reasoning score."""
    harm: Differences
    """Rise of the harm, such as the attack success rate."""

    @property
    def verdict(self) -> str:
        """At the last step: `reasoning up, safety down`, or the same with `down`, `not resolved` and so on."""
        texts = []
        for name, found, sign in (("reasoning", self.gain, 1), ("safety", self.harm, -1)):
            last = found.steps[-1]
            rises, falls = (last in found.above, last in found.below)[::sign]
            texts.append(f"{name} {'up' if rises else 'down' if falls else 'not resolved'}")
        return ", ".join(texts)


def compare_arms(
    steps: Sequence[int],
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    seed: int,
    *,
    num_draws: int = NUM_DRAWS,
    span: float = 1.0,
    confidence: float = CONFIDENCE,
) -> Differences:
    """Return first minus second at equal steps, item by item.

    Args:
        steps: [S], any; a base model that both share has no place among them.
        first: [S, I] per-item scores, nan where an item is missing; such items do not count at that step.
        second: [S, I], the same items.
        seed: of the resamples.
        num_draws: B.
        span: see `curve.from_items`.
        confidence: that all S intervals hold the truth.

    Raises:
        ValueError: for shapes that differ, or steps with less than two items in common.
    """
    differences = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    if differences.ndim != 2 or len(steps) != len(differences):
        raise ValueError(f"compare_arms: {len(steps)} steps, but differences {differences.shape} of [steps, items]")
    if (~np.isnan(differences)).sum(axis=1).min() < 2:
        raise ValueError("compare_arms: every step needs at least two items that both arms have")
    counts = resample_counts(differences.shape[1], seed, num_draws)
    estimate, stderr, _, max_t = item_contrasts(differences, counts, span)
    # At least that of one difference: where no item differs, no resample does either, which is no certainty.
    half = max(NormalDist().inv_cdf((1 + confidence) / 2), float(np.quantile(max_t, confidence))) * stderr
    return Differences(
        steps=tuple(steps), estimate=estimate, stderr=stderr, lower=estimate - half, upper=estimate + half
    )


def compare_means(
    steps: Sequence[int], estimate: npt.ArrayLike, stderr: npt.ArrayLike, *, confidence: float = CONFIDENCE
) -> Differences:
    """Return differences of which only the standard errors are known, their errors being independent and normal.

    The band's half width is that of S independent intervals that hold together (Šidák): (1 + confidence^(1/S)) / 2.
    """
    means, errors = np.asarray(estimate, dtype=np.float64), np.asarray(stderr, dtype=np.float64)
    if not len(steps) == len(means) == len(errors) > 0 or not np.all(errors > 0):
        raise ValueError("compare_means: one estimate and one standard error above 0 for each step")
    half = NormalDist().inv_cdf((1 + confidence ** (1 / len(means))) / 2) * errors
    return Differences(steps=tuple(steps), estimate=means, stderr=errors, lower=means - half, upper=means + half)


def compare_at(
    first: Curve,
    second: Curve,
    pairs: Sequence[tuple[int, int]],
    *,
    changes: bool = False,
    least: Values | None = None,
    confidence: float = CONFIDENCE,
) -> Differences:
    """Return first minus second, each at a step of its own, draw by draw.

    Args:
        first: a curve.
        second: another one; where its draws took the same items, the difference is a paired one.
        pairs: [S] a step of the first curve and one of the second; the result has the first one's.
        changes: take changes from base in place of scores.
        least: [S] what the standard errors are at least: where all items differ alike, no draw differs from another.
        confidence: that all S intervals hold the truth.

    Raises:
        ValueError: for curves with different numbers of draws, and no or unknown steps.
    """
    if not pairs or len(first.draws) != len(second.draws):
        raise ValueError("compare_at: a pair of steps is needed, and curves with the same number of draws")
    a = [first.steps.index(step) for step, _ in pairs]
    b = [second.steps.index(step) for _, step in pairs]
    means, draws = first.means[a] - second.means[b], first.draws[:, a] - second.draws[:, b]
    if changes:
        means = means - (first.means[0] - second.means[0])
        draws = draws - (first.draws[:, :1] - second.draws[:, :1])
    return _from_draws([step for step, _ in pairs], means, draws, _worth(first, second), confidence, least)


def compare_groups(first: Curve, second: Curve, steps: Sequence[int], *, confidence: float = CONFIDENCE) -> Differences:
    """Return the change from base of one group of benchmarks minus that of another one, which have no common items."""
    pairs = [(step, step) for step in steps]
    least = np.hypot(_least(first, steps), _least(second, steps))
    return compare_at(first, second, pairs, changes=True, least=least, confidence=confidence)


def _least(curve: Curve, steps: Sequence[int]) -> Values:
    """Standard errors [steps] of changes from base as the draws should have them; 0 where they are known."""
    if curve.num_items is None:
        return np.zeros(len(steps))
    # `widened` will put n / (n - 1) back, which standard errors of items have and those of draws have not.
    own = 1.0 if curve.contrasts.num_items is not None else math.sqrt((curve.num_items - 1) / curve.num_items)
    return own * curve.contrasts.stderr[[curve.steps.index(step) - 1 for step in steps]]


def compare_curves(first: Curve, second: Curve, *, confidence: float = CONFIDENCE) -> Differences:
    """Return first minus second at the steps after base that both have."""
    return compare_at(first, second, _common_pairs(first, second), confidence=confidence)


def compare_changes(first: Curve, second: Curve, *, confidence: float = CONFIDENCE) -> Differences:
    """Return the first curve's change from base minus the second's: out-of-domain against in-domain, say."""
    return compare_at(first, second, _common_pairs(first, second), changes=True, confidence=confidence)


def _common_pairs(first: Curve, second: Curve) -> list[tuple[int, int]]:
    return [(step, step) for step in _common(first, second)[0]]


def asymmetry(reasoning: Curve, harm: Curve, *, confidence: float = CONFIDENCE) -> Asymmetry:
    """Return the changes from base of a reasoning score and of harm (higher is worse); one band holds both."""
    steps, a, b = _common(reasoning, harm)
    means = np.concatenate([reasoning.means[a] - reasoning.means[0], harm.means[b] - harm.means[0]])
    draws = np.hstack([reasoning.draws[:, a] - reasoning.draws[:, :1], harm.draws[:, b] - harm.draws[:, :1]])
    # The band must be wide enough for the figure with fewer items.
    worth = min((n for n in (reasoning.num_items, harm.num_items) if n is not None), default=None)
    least = np.concatenate([_least(reasoning, steps), _least(harm, steps)])
    both = _from_draws([*steps, *steps], means, draws, worth, confidence, least)
    halves = [
        Differences(
            steps=tuple(steps),
            estimate=both.estimate[part],
            stderr=both.stderr[part],
            lower=both.lower[part],
            upper=both.upper[part],
        )
        for part in (slice(0, len(steps)), slice(len(steps), None))
    ]
    return Asymmetry(gain=halves[0], harm=halves[1])


def _from_draws(
    steps: Sequence[int],
    means: Values,
    draws: Values,
    num_items: float | None,
    confidence: float,
    least: Values | None = None,
) -> Differences:
    stderr = np.std(draws, axis=0, ddof=1)
    if least is not None:
        stderr = np.maximum(stderr, least)
    offsets = np.abs(draws - means)
    t_values = np.divide(offsets, stderr, out=np.zeros_like(offsets), where=stderr > 0)
    # At least that of one difference: where no draw differs, the quantile is 0.
    one = NormalDist().inv_cdf((1 + confidence) / 2)
    half = widened(max(one, float(np.quantile(t_values.max(axis=1), confidence))), num_items) * stderr
    return Differences(steps=tuple(steps), estimate=means, stderr=stderr, lower=means - half, upper=means + half)


def _worth(first: Curve, second: Curve) -> float | None:
    return effective_items((float(curve.contrasts.stderr[0]) ** 2, curve.num_items) for curve in (first, second))


def _common(first: Curve, second: Curve) -> tuple[list[int], list[int], list[int]]:
    """Steps after base that both have, and their places in each."""
    steps = [step for step in first.steps[1:] if step in second.steps]
    if not steps or len(first.draws) != len(second.draws):
        raise ValueError("two curves need a step after base in common, and the same number of draws")
    return steps, [first.steps.index(step) for step in steps], [second.steps.index(step) for step in steps]
