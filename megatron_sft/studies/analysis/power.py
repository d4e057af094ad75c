"""Which change a benchmark could have shown at all, before it is run. `Shape.detectable` says it of measured scores."""

import math
from statistics import NormalDist

from megatron_sft.studies.analysis.curve import CONFIDENCE
from megatron_sft.studies.analysis.shape import POWER


def change_stderr(
    *, score: float, num_items: int, num_samples: int = 1, item_share: float = 0.6, correlation: float = 0.0
) -> float:
    """Return the standard error of the difference of two steps' scores on the same items, shares 0 to 1.

    The variance of one sample, p (1 - p), is split into a share between items and a rest within an item, which k
    samples average: Var = 2 p (1 - p) (share (1 - correlation) + (1 - share) / k) / n.

    Args:
        score: p, about what both steps reach.
        num_items: n.
        num_samples: k for each item.
        item_share: of the variance that lies between items: 0 where all are equally hard, 1 where each is always right
            or always wrong.
        correlation: between an item's chance of being right at the two steps. 0 is as if other items were asked.
    """
    if not 0 < score < 1 or num_items < 2 or num_samples < 1 or not 0 <= item_share <= 1 or not 0 <= correlation <= 1:
        raise ValueError(
            f"score {score}, num_items {num_items}, num_samples {num_samples}, item_share {item_share}, correlation "
            f"{correlation}: needed are 0 < score < 1, two items, one sample, and shares from 0 to 1"
        )
    parts = item_share * (1 - correlation) + (1 - item_share) / num_samples
    return math.sqrt(2 * score * (1 - score) * parts / num_items)


def detectable_change(stderr: float, num_steps: int, *, power: float = POWER, confidence: float = CONFIDENCE) -> float:
    """Return the change of one step from base that is resolved with a probability of `power`.

    The critical value is Bonferroni's for the 2 S - 3 contrasts of S steps (base included), which is a little larger
    than the bootstrap's.
    """
    normal = NormalDist()
    num_contrasts = max(1, 2 * num_steps - 3)
    return (normal.inv_cdf(1 - (1 - confidence) / 2 / num_contrasts) + normal.inv_cdf(power)) * stderr
