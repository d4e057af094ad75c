"""What few items do to a bootstrap, and how its intervals are made wide enough.

The variance of the draws lacks n / (n - 1), and they follow the normal where Student's distribution is called for
(Hesterberg, "What Teachers Should Know About the Bootstrap", The American Statistician 2015, section 5.3). Studentised
draws have neither fault, nor have draws from a known normal distribution: for those the number of items is None.
"""

import math
from collections.abc import Iterable
from statistics import NormalDist


def student(z: float, freedom: float) -> float:
    """Return Student's quantile at the level of the normal quantile z, by its expansion in 1 / degrees of freedom."""
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)


def widened(z: float, num_items: float | None) -> float:
    """Return the number of standard errors of the draws to take in place of z."""
    if num_items is None:
        return z
    return math.sqrt(num_items / (num_items - 1)) * student(z, num_items - 1)


def tails(confidence: float, num_items: float | None) -> list[float]:
    """Return the two quantiles of the draws that a percentile interval takes."""
    normal = NormalDist()
    moved = normal.cdf(-widened(normal.inv_cdf((1 + confidence) / 2), num_items))
    return [moved, 1 - moved]


def effective_items(parts: Iterable[tuple[float, float | None]]) -> float | None:
    """Return the number of items of which a sum of independent figures is as sure as of its own.

    Degrees of freedom of Welch and Satterthwaite: (sum v)^2 / sum(v^2 / (n - 1)). A benchmark of 30 items that brings
    nearly all of the variance leaves little more than its own 29.

    Args:
        parts: variance of each figure and its items; None: the variance is known.
    """
    known = list(parts)
    shares = sum(variance**2 / (num - 1) for variance, num in known if num is not None)
    return None if shares == 0 else sum(variance for variance, _ in known) ** 2 / shares + 1
