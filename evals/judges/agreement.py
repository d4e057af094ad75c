"""How far two judges agree on the same questions.

Cohen 1960, "A Coefficient of Agreement for Nominal Scales", and 1968 for weights; Spearman's rho is the correlation of
ranks, equal values sharing the mean of theirs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Figures over the questions that both judges answered in the form asked for."""

    num: int
    num_only_first: int
    """Questions with a value of the first judge alone."""
    num_only_second: int
    raw: float | None
    """Share of equal values; None where there is no common question."""
    kappa: float | None
    """Cohen's, unweighted: 1 is full agreement, 0 that of chance. None where chance alone would agree fully."""
    weighted_kappa: float | None
    """The same with quadratic weights, for scales: a difference of 2 counts four times one of 1."""
    spearman: float | None
    """Of the values' ranks; None where a judge gives all the same value."""
    categories: list[Any]
    confusion: list[list[int]]
    """Counts, [first judge's value][second judge's value], in the order of `categories`."""


def agreement(first: Mapping[str, Any], second: Mapping[str, Any], categories: Sequence[Any]) -> Agreement:
    """Compare values by question; `categories` are all possible ones, in rising order.

    Raises:
        ValueError: for a value that is no category.
    """
    common = sorted(first.keys() & second.keys())
    order = list(categories)
    a = np.array([order.index(first[name]) for name in common], dtype=np.int64)
    b = np.array([order.index(second[name]) for name in common], dtype=np.int64)
    confusion = np.zeros((len(order), len(order)), dtype=np.int64)
    np.add.at(confusion, (a, b), 1)
    distance = np.abs(np.subtract.outer(np.arange(len(order)), np.arange(len(order)))).astype(np.float64)
    return Agreement(
        num=len(common),
        num_only_first=len(first.keys() - second.keys()),
        num_only_second=len(second.keys() - first.keys()),
        raw=float(np.mean(a == b)) if common else None,
        kappa=_kappa(confusion, (distance > 0).astype(np.float64)),
        weighted_kappa=_kappa(confusion, distance**2),
        spearman=_correlation(_ranks(a), _ranks(b)),
        categories=order,
        confusion=confusion.tolist(),
    )


def _kappa(confusion: npt.NDArray[np.int64], weights: Array) -> float | None:
    """Return 1 - observed / expected disagreement, `weights` [C, C] being the disagreement of each pair."""
    num = confusion.sum()
    if not num:
        return None
    expected = np.outer(confusion.sum(axis=1), confusion.sum(axis=0)) / num
    chance = float((weights * expected).sum())
    return None if chance == 0 else 1 - float((weights * confusion).sum()) / chance


def _ranks(values: npt.NDArray[np.int64]) -> Array:
    """Return ranks from 1; equal values share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    shared: Array = last - (counts - 1) / 2
    return shared[inverse]


def _correlation(a: Array, b: Array) -> float | None:
    if len(a) == 0:
        return None
    a, b = a - a.mean(), b - b.mean()
    norm = float(np.sqrt((a @ a) * (b @ b)))
    return None if norm == 0 else float(a @ b) / norm
