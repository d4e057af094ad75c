"""How much of a gain is form: more answers that can be taken from the response, against more of those being right.

A score s is the share e of responses from which an answer could be extracted times the accuracy a among those, as a
response without an answer is wrong. Between base 0 and a step t

    s_t - s_0 = (e_t - e_0) (a_0 + a_t) / 2   form: more could be extracted
              + (a_t - a_0) (e_0 + e_t) / 2   accuracy: more of the extracted are right

exactly: each factor's part is the mean over the two orders in which the factors could have changed (Shapley's value;
Kitagawa, "Components of a difference between two rates", JASA 1955). Where nothing was extracted at a step, a has no
value there and takes that of the other step, so that the whole difference is form.

The accuracy among the extracted is no ability of its own: what is extracted early may be the easier items.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from megatron_sft.studies.analysis.curve import CONFIDENCE, NUM_DRAWS, Values, resample_counts
from megatron_sft.studies.analysis.few_items import tails


@dataclass(frozen=True, kw_only=True)
class GainParts:
    """The change from base at each step after it [S - 1] and its two parts; intervals [2, S - 1] are percentile ones,
    each for itself.
    """

    steps: tuple[int, ...]
    gain: Values
    gain_interval: Values
    form: Values
    form_interval: Values
    accuracy: Values
    accuracy_interval: Values
    share_extracted: Values
    """[S]"""
    accuracy_among_extracted: Values
    """[S], nan where nothing was extracted."""


def gain_parts(
    steps: Sequence[int],
    scores: npt.ArrayLike,
    extracted: npt.ArrayLike,
    seed: int,
    *,
    num_draws: int = NUM_DRAWS,
    confidence: float = CONFIDENCE,
) -> GainParts:
    """Split the change from base at each step.

    Args:
        steps: [S], the first one base.
        scores: [S, I] each item's share of right answers.
        extracted: [S, I] each item's share of responses from which an answer could be taken.
        seed: of the resamples.
        num_draws: of the items.
        confidence: of each interval.

    Raises:
        ValueError: for shapes that differ, missing values, or more right answers than answers.
    """
    right, found = np.asarray(scores, dtype=np.float64), np.asarray(extracted, dtype=np.float64)
    if right.ndim != 2 or right.shape != found.shape or len(steps) != len(right):
        raise ValueError(f"gain_parts: scores {right.shape} and extracted {found.shape} must be [{len(steps)}, items]")
    if not np.all(right <= found + 1e-9):
        raise ValueError("gain_parts: an item has more right answers than extracted ones, or misses a value")
    num_items = right.shape[1]
    counts = np.vstack([np.ones(num_items), resample_counts(num_items, seed, num_draws)])
    score, share = counts @ right.T / num_items, counts @ found.T / num_items
    form, accuracy = _parts(score, share)
    tail = tails(confidence, num_items)
    gain = score[:, 1:] - score[:, :1]
    with np.errstate(invalid="ignore"):
        among = score[0] / share[0]
    return GainParts(
        steps=tuple(steps[1:]),
        gain=gain[0],
        gain_interval=np.quantile(gain[1:], tail, axis=0),
        form=form[0],
        form_interval=np.quantile(form[1:], tail, axis=0),
        accuracy=accuracy[0],
        accuracy_interval=np.quantile(accuracy[1:], tail, axis=0),
        share_extracted=share[0],
        accuracy_among_extracted=among,
    )


def _parts(score: Values, share: Values) -> tuple[Values, Values]:
    """Form and accuracy [B, S - 1] from scores and shares [B, S]."""
    among = np.divide(score, share, out=np.full_like(score, np.nan), where=share > 0)
    before = np.where(np.isnan(among[:, :1]), among[:, 1:], among[:, :1])
    after = np.where(np.isnan(among[:, 1:]), before, among[:, 1:])
    # Nothing extracted at either step: no change at all.
    before, after = np.nan_to_num(before), np.nan_to_num(after)
    form = (share[:, 1:] - share[:, :1]) * (before + after) / 2
    return form, (after - before) * (share[:, 1:] + share[:, :1]) / 2
