"""Estimates and how sure they are: standard errors, intervals and tests, all with the items as what was drawn.

The samples of one item are not independent, so every function takes one value per item (the mean or the sum over the
item's samples) and treats the items as the sample. Means and errors: Cochran, "Sampling Techniques" (1977), chapters
2, 6 and 9; jackknife and percentile interval: Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapters
11 and 13.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Values: TypeAlias = npt.NDArray[np.float64]

NUM_BOOTSTRAP_DRAWS = 2_000
NUM_SIGN_FLIPS = 10_000
CONFIDENCE = 0.95
MAX_EXACT_ITEMS = 12
"""With at most so many items that differ, all 2^n assignments of signs are tried instead of drawn ones."""
CHUNK_VALUES = 1 << 20
"""Drawn values held at a time: memory does not grow with items x draws."""
MAX_NAMED = 5


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """A sum over a sum."""

    value: float | None
    """None where the denominators sum to 0."""
    stderr: float | None
    """None for less than two items, or where one item holds the whole denominator."""


@dataclass(frozen=True, kw_only=True)
class PairedDifference:
    """The mean of `first - second` over the items that both have."""

    difference: float | None
    """None without common items."""
    stderr: float | None
    """None for less than two common items."""
    interval: tuple[float, float] | None
    """Bootstrap percentile interval of `CONFIDENCE`."""
    p_value: float | None
    """Two-sided sign-flip test of a difference of zero."""
    num_items: int
    """Items in common."""
    only_in_first: tuple[str, ...]
    only_in_second: tuple[str, ...]


def seed_of(*parts: Any) -> int:
    """Return a seed that depends on JSON values alone, so that the same evaluation draws the same resamples."""
    return int.from_bytes(hashlib.sha256(json.dumps(parts).encode()).digest()[:16], "big")


def sums_by_item(pairs: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Return item -> sum of its samples' values, in the order in which the items come."""
    sums: dict[str, float] = {}
    for item, value in pairs:
        sums[item] = sums.get(item, 0.0) + value
    return sums


def means_by_item(pairs: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Return item -> mean of its samples' values, in the order in which the items come."""
    by_item: dict[str, list[float]] = {}
    for item, value in pairs:
        by_item.setdefault(item, []).append(value)
    return {item: math.fsum(values) / len(values) for item, values in by_item.items()}


def mean(values: Sequence[float] | Values) -> float | None:
    """Return the mean (correctly rounded, so it does not depend on the order), or None of nothing."""
    return math.fsum(values) / len(values) if len(values) else None


def standard_error(values: Sequence[float] | Values) -> float | None:
    """Return the standard error of the mean of one value per item [items]; None for less than two items.

    With one sample of 0 or 1 per item it is the usual sqrt(p (1 - p) / (n - 1)).
    """
    if len(values) < 2:
        return None
    return float(np.std(np.asarray(values, dtype=np.float64), ddof=1)) / math.sqrt(len(values))


def bootstrap_interval(
    values: Sequence[float] | Values,
    seed: int,
    *,
    num_draws: int = NUM_BOOTSTRAP_DRAWS,
    confidence: float = CONFIDENCE,
) -> tuple[float, float] | None:
    """Return the percentile interval of the mean when the items [items] are drawn anew with replacement.

    None for less than two items. Where all values are equal the interval has no width: the bootstrap cannot know
    values that it never saw.
    """
    array = np.asarray(values, dtype=np.float64)
    if len(array) < 2:
        return None
    generator = np.random.default_rng(seed)
    means = np.empty(num_draws)
    num_rows = max(1, CHUNK_VALUES // len(array))
    for start in range(0, num_draws, num_rows):
        size = (min(num_rows, num_draws - start), len(array))
        means[start : start + size[0]] = array[generator.integers(len(array), size=size)].mean(axis=1)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def ratio(numerators: Sequence[float] | Values, denominators: Sequence[float] | Values) -> Ratio:
    """Return the sum of `numerators` over that of `denominators`, each [items], with the jackknife's standard error.

    The jackknife leaves out one item at a time: sqrt((n - 1) / n * sum((r_i - mean(r))^2)).
    """
    tops, bottoms = np.asarray(numerators, dtype=np.float64), np.asarray(denominators, dtype=np.float64)
    top, bottom = math.fsum(tops), math.fsum(bottoms)
    if bottom == 0:
        return Ratio(value=None, stderr=None)
    rests = bottom - bottoms
    if len(tops) < 2 or not np.all(rests > 0):
        return Ratio(value=top / bottom, stderr=None)
    without_one = (top - tops) / rests
    spread = float(np.sum((without_one - without_one.mean()) ** 2))
    return Ratio(value=top / bottom, stderr=math.sqrt((len(tops) - 1) / len(tops) * spread))


def paired_difference(first: Mapping[str, float], second: Mapping[str, float], seed: int) -> PairedDifference:
    """Compare two models' item means; items that only one of them has are named and do not count."""
    common = sorted(first.keys() & second.keys())
    differences = np.array([first[item] - second[item] for item in common])
    return PairedDifference(
        difference=mean(differences),
        stderr=standard_error(differences),
        interval=bootstrap_interval(differences, seed),
        p_value=sign_flip_p(differences, seed) if common else None,
        num_items=len(common),
        only_in_first=tuple(sorted(first.keys() - second.keys())),
        only_in_second=tuple(sorted(second.keys() - first.keys())),
    )


def sign_flip_p(differences: Sequence[float] | Values, seed: int, *, num_draws: int = NUM_SIGN_FLIPS) -> float:
    """Return the two-sided p value of the differences [items] being symmetric about zero.

    If the two models were alike, each difference could as well have had the other sign: p is the share of sign
    assignments whose sum is at least as far from zero as the one that was seen. All of them up to `MAX_EXACT_ITEMS`
    items that differ; else drawn ones, with the one that was seen among them, so p is never 0.
    """
    array = np.asarray(differences, dtype=np.float64)
    array = array[array != 0]
    if len(array) == 0:
        return 1.0
    # Sums that are equal but for rounding count as equal.
    threshold = abs(float(array.sum())) - 1e-9 * float(np.abs(array).sum())
    if len(array) <= MAX_EXACT_ITEMS:
        bits = (np.arange(2 ** len(array))[:, None] >> np.arange(len(array))) & 1
        return float(np.mean(np.abs((2 * bits - 1) @ array) >= threshold))
    generator = np.random.default_rng(seed)
    num_hits = 0
    num_rows = max(1, CHUNK_VALUES // len(array))
    for start in range(0, num_draws, num_rows):
        size = (min(num_rows, num_draws - start), len(array))
        signs = 2.0 * generator.integers(2, size=size) - 1.0
        num_hits += int(np.count_nonzero(np.abs(signs @ array) >= threshold))
    return (1 + num_hits) / (1 + num_draws)


def length_summary(lengths: Sequence[int]) -> dict[str, float | int | None]:
    """Return mean, median and 90th percentile (linear between neighbours) of lengths, and how many there are."""
    if not lengths:
        return {"mean": None, "median": None, "p90": None, "num": 0}
    median, p90 = np.percentile(np.asarray(lengths, dtype=np.float64), [50, 90])
    return {"mean": math.fsum(lengths) / len(lengths), "median": float(median), "p90": float(p90), "num": len(lengths)}
