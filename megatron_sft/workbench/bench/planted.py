"""Synthetic studies whose truth is known: items of different difficulty, answered anew at every step.

Item i at step t is answered correctly with probability sigmoid(m_t + d_i + u_ti): d is the item's difficulty, the same
at all steps; u is what a checkpoint does to that item alone. m_t makes the mean over all items that there could be
exactly what was planted. Shapes: S steps (the first is base), I items, K samples.
"""

from dataclasses import dataclass

import numpy as np

from megatron_sft.studies.analysis.curve import Values

STEPS = (0, 10, 20, 40, 80, 160, 320, 480, 640)
"""Those of the paper's runs."""
ITEM_SD, STEP_SD = 2.0, 0.7
"""Of d and u, in logits: scores of one item at two steps correlate by about 0.6 with 3 samples and by 0.8 with 10."""
GRID = 4001
SHAPES: dict[str, tuple[float, ...]] = {
    "dip and recovery": (-0.45, -0.65, -0.35, 0.1, 0.5, 0.85, 1.0, 1.0),
    "monotone gain": (0.05, 0.15, 0.3, 0.5, 0.7, 0.9, 1.0, 1.0),
    "decline": (-0.15, -0.3, -0.5, -0.65, -0.8, -0.9, -1.0, -1.0),
    "pure noise": (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
}
"""Change from base at each step after it, as a share of the setting's amplitude."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A benchmark's size, and how large the planted changes are."""

    name: str
    num_items: int
    num_samples: int
    base: float
    """Score of the base model, 0 to 1."""
    amplitude: float
    """Largest change from base."""
    margin: float
    """What is smaller does not matter."""


SETTINGS = (
    Setting(name="MATH-500, avg@3, 0.60 +- 0.15", num_items=500, num_samples=3, base=0.60, amplitude=0.15, margin=0.05),
    Setting(name="AIME24, avg@10, 0.30 +- 0.15", num_items=30, num_samples=10, base=0.30, amplitude=0.15, margin=0.05),
    Setting(name="AIME24, avg@10, 0.06 +- 0.05", num_items=30, num_samples=10, base=0.06, amplitude=0.05, margin=0.05),
    Setting(name="AIME24, avg@10, 0.45 +- 0.40", num_items=30, num_samples=10, base=0.45, amplitude=0.40, margin=0.15),
)


def true_changes(setting: Setting, shape: str) -> Values:
    """The planted changes from base [S - 1]."""
    return setting.amplitude * np.array(SHAPES[shape])


def draw_scores(setting: Setting, changes: Values, generator: np.random.Generator) -> Values:
    """One synthetic study: each item's share of right answers [S, I]."""
    targets = setting.base + np.concatenate([[0.0], changes])
    centres = np.array([_centre(float(target)) for target in targets])
    difficulty = generator.normal(0.0, ITEM_SD, setting.num_items)
    own = generator.normal(0.0, STEP_SD, (len(targets), setting.num_items))
    chances = _sigmoid(centres[:, None] + difficulty + own)
    return generator.binomial(setting.num_samples, chances) / setting.num_samples


_CENTRES: dict[float, float] = {}


def _centre(target: float) -> float:
    """The m with which the mean over all items is `target`, by bisection."""
    if target not in _CENTRES:
        # The middles of equally likely slices would be coarse in the tails; equal steps with normal weights are not.
        points = np.linspace(-6.0, 6.0, GRID)
        weights = np.exp(-(points**2) / 2)
        weights /= weights.sum()
        spread = points * float(np.hypot(ITEM_SD, STEP_SD))
        low, high = -20.0, 20.0
        while high - low > 1e-10:
            middle = (low + high) / 2
            low, high = (middle, high) if float(weights @ _sigmoid(middle + spread)) < target else (low, middle)
        _CENTRES[target] = low
    return _CENTRES[target]


def _sigmoid(values: Values) -> Values:
    return np.asarray(1.0 / (1.0 + np.exp(-values)))
