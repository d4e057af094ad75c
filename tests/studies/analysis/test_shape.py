import numpy as np
import numpy.typing as npt
import pytest

from megatron_sft.studies.analysis.curve import Curve, from_items, from_means
from megatron_sft.studies.analysis.shape import Verdict, shape_of

STEPS = (0, 10, 20, 40, 80)


def sharp(*means: float, stderr: float = 0.5) -> Curve:
    return from_means(STEPS, means, [stderr] * 5, seed=0)


@pytest.mark.parametrize(
    ("means", "verdict"),
    [
        ((50, 45, 40, 55, 60), Verdict.DIP_AND_RECOVERY),
        ((50, 45, 40, 45, 50), Verdict.DIP),
        ((50, 51, 52, 55, 60), Verdict.MONOTONE_GAIN),
        # Above base at the end, but it was further up before.
        ((50, 60, 70, 65, 60), Verdict.GAIN),
        ((50, 49, 45, 44, 40), Verdict.DECLINE),
        ((50, 40, 60, 60, 45), Verdict.DECLINE),
        ((50, 50.1, 49.9, 50, 50.1), Verdict.FLAT),
    ],
)
def test_sharp_curves_get_their_verdict(means: tuple[float, ...], verdict: Verdict) -> None:
    assert shape_of(sharp(*means), margin=3).verdict == verdict


def test_noise_hides_the_same_curves() -> None:
    assert shape_of(sharp(50, 45, 40, 55, 60, stderr=10), margin=3).verdict == Verdict.NOT_RESOLVED
    # The gain is resolved, the dip is not, and a dip of more than the margin is not excluded.
    assert shape_of(sharp(50, 49, 48, 55, 80, stderr=4), margin=3).verdict == Verdict.GAIN


def test_figures_of_a_dip() -> None:
    shape = shape_of(sharp(50, 45, 40, 55, 60), margin=3)
    half = (shape.upper - shape.lower)[1] / 2
    # Standard error sqrt(0.5): 2.5 to 2.9 of them for 7 contrasts.
    assert half == pytest.approx(2.7 * 0.5**0.5, abs=0.15)
    assert (shape.dip.depth, shape.dip.step, shape.dip.possible_steps) == (10.0, 20, (20,))
    assert shape.dip.interval == pytest.approx((10 - half, 10 + half))
    assert shape.dip.step_shares == (0.0, 1.0, 0.0, 0.0)
    assert shape.dip.is_resolved
    assert shape.dip.rise_is_resolved
    assert (shape.recovery.step, shape.recovery.earliest, shape.recovery.latest) == (40, 40, 40)
    assert shape.final_gain == 10.0
    assert shape.final_interval == pytest.approx((10 - 1.96 * 0.5**0.5, 10 + 1.96 * 0.5**0.5), abs=0.1)
    assert shape.late_fall == (0.0, 0.0)
    assert shape.detectable == pytest.approx(half + 0.8416 * 0.5**0.5, abs=1e-3)


def test_recovery_is_a_range_where_steps_are_close_to_base() -> None:
    shape = shape_of(sharp(50, 40, 49.5, 50.5, 60), margin=3)
    assert (shape.recovery.step, shape.recovery.earliest, shape.recovery.latest) == (40, 20, 80)
    declined = shape_of(sharp(50, 40, 41, 41, 40), margin=3)
    assert (declined.recovery.step, declined.recovery.earliest, declined.recovery.latest) == (None, None, None)


def test_a_fall_behind_the_peak_is_told() -> None:
    low, high = shape_of(sharp(50, 60, 70, 65, 60), margin=3).late_fall
    assert 7 < low < 10 < high < 13


def test_the_lowest_of_noisy_points_is_corrected_and_not_resolved() -> None:
    # Eight noisy steps around base: the lowest lies about 1.4 standard errors below.
    generator = np.random.default_rng(0)
    seen, corrected, resolved = [], [], []
    for seed in range(200):
        curve = from_means(range(9), 50 + generator.normal(0, 1, 9), [1.0] * 9, seed=seed, num_draws=500)
        dip = shape_of(curve, margin=3).dip
        seen.append(dip.depth)
        corrected.append(dip.corrected_depth)
        resolved.append(dip.is_resolved)
    assert np.mean(seen) > 1.3
    assert np.mean(corrected) < 0.75 * np.mean(seen)
    assert np.mean(resolved) <= 0.05


def test_without_a_correction_noise_would_look_like_dips() -> None:
    # The guard of the guard: each step's own interval excludes base in far more than 5 % of the studies.
    generator = np.random.default_rng(1)
    alone, together = 0, 0
    for seed in range(200):
        curve = from_items(range(9), noise(generator), seed, num_draws=500)
        high = np.quantile(curve.contrasts.draws[:, :8], 0.975, axis=0)
        alone += bool((high < 0).any())
        together += shape_of(curve, margin=0.05).dip.is_resolved
    assert alone > 20
    assert together <= 10


def noise(generator: np.random.Generator) -> npt.NDArray[np.float64]:
    chances = generator.beta(1.0, 1.0, 60)
    return generator.binomial(1, np.broadcast_to(chances, (9, 60))).astype(np.float64)
