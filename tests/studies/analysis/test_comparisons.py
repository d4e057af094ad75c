import numpy as np
import pytest

from megatron_sft.studies.analysis.comparisons import (
    asymmetry,
    compare_arms,
    compare_changes,
    compare_curves,
    compare_groups,
    compare_means,
)
from megatron_sft.studies.analysis.curve import from_items, from_means


def test_arms_are_compared_item_by_item() -> None:
    generator = np.random.default_rng(0)
    difficulty = generator.random((1, 200))
    second = np.repeat((difficulty > 0.5).astype(float), 2, axis=0)
    first = second.copy()
    # Twenty of the hard items are right in the first arm at the second step.
    hard = np.flatnonzero(second[1] == 0)[:20]
    first[1, hard] = 1.0
    found = compare_arms((10, 20), first, second, seed=0)
    assert found.estimate == pytest.approx([0.0, 0.1])
    assert found.above == (20,)
    assert found.below == ()
    # Unpaired, the standard error would be 0.05.
    assert found.stderr[1] == pytest.approx(np.sqrt(0.1 * 0.9 / 199))
    assert found.lower[0] < 0 < found.upper[0]


def test_the_band_over_steps_keeps_its_error_rate() -> None:
    generator = np.random.default_rng(1)
    wrong = 0
    for seed in range(200):
        scores = generator.binomial(1, 0.5, (2, 8, 100)).astype(float)
        found = compare_arms(range(8), scores[0], scores[1], seed, num_draws=500)
        wrong += bool(found.above or found.below)
    assert wrong <= 20, "5 % are 10 of 200; more than 20 have a probability of 0.1 %"


def test_missing_items_do_not_count() -> None:
    found = compare_arms((10,), [[1.0, 1.0, np.nan, 0.0]], [[0.0, 1.0, 1.0, np.nan]], seed=0)
    assert found.estimate == pytest.approx([0.5])
    with pytest.raises(ValueError, match="at least two items that both arms have"):
        compare_arms((10,), [[1.0, np.nan]], [[1.0, 1.0]], seed=0)


def test_curves_are_independent() -> None:
    first = from_means((0, 10, 20), [50, 60, 70], [3.0] * 3, seed=0, num_draws=20_000)
    second = from_means((0, 20, 40), [40, 50, 60], [4.0] * 3, seed=1, num_draws=20_000)
    found = compare_curves(first, second)
    assert (found.steps, found.above) == ((20,), (20,))
    assert found.estimate == pytest.approx([20.0])
    assert found.stderr == pytest.approx([5.0], rel=0.02)
    changes = compare_changes(first, second)
    assert changes.estimate == pytest.approx([10.0])
    assert changes.stderr == pytest.approx([5 * 2**0.5], rel=0.02)
    assert (changes.above, changes.below) == ((), ())


@pytest.mark.parametrize(
    ("reasoning", "harm", "verdict"),
    [
        ([50, 40, 70], [10, 20, 40], "reasoning up, safety down"),
        ([50, 40, 70], [40, 20, 10], "reasoning up, safety up"),
        ([50, 40, 51], [10, 20, 11], "reasoning not resolved, safety not resolved"),
        ([50, 40, 30], [10, 20, 11], "reasoning down, safety not resolved"),
    ],
)
def test_asymmetry(reasoning: list[float], harm: list[float], verdict: str) -> None:
    steps = (0, 10, 20)
    first, second = from_means(steps, reasoning, [1.0] * 3, seed=0), from_means(steps, harm, [1.0] * 3, seed=1)
    found = asymmetry(first, second)
    assert found.verdict == verdict
    assert found.gain.estimate[-1] == reasoning[-1] - reasoning[0]
    assert found.harm.estimate[-1] == harm[-1] - harm[0]
    # One critical value for all four changes: wider than two of them need.
    alone = compare_changes(first, from_means(steps, [0, 0, 0], [1e-9] * 3, seed=2))
    assert found.gain.upper[0] - found.gain.lower[0] > alone.upper[0] - alone.lower[0]


def test_changes_that_are_the_same_in_all_items_are_not_certain() -> None:
    still = from_items((0, 10), np.zeros((2, 20)), 0)
    risen = from_items((0, 10), np.vstack([np.zeros(20), np.ones(20)]), 1)
    found = compare_groups(risen, still, [10])
    assert found.estimate.tolist() == [1]
    # The error of one item of each that differs by 1: sqrt(2) / 20, and about twice that on either side.
    assert found.upper[0] - 1 > 1.96 * np.sqrt(2) / 20
    both = asymmetry(risen, still)
    assert both.verdict == "reasoning up, safety not resolved"
    assert both.harm.upper[0] > 1.96 / 20


def test_known_errors_make_a_band_by_formula() -> None:
    one = compare_means([640], [3.0], [1.0])
    assert (one.lower[0], one.upper[0]) == pytest.approx((3 - 1.959964, 3 + 1.959964))
    # Four independent intervals that hold together with 95 %: each with 0.95^(1/4) = 98.73 %, at 2.4909 errors.
    four = compare_means([10, 20, 40, 80], [3.0] * 4, [1.0, 2.0, 1.0, 1.0])
    assert four.upper - 3 == pytest.approx(np.array([2.4909, 4.9818, 2.4909, 2.4909]), abs=1e-3)
    assert four.above == (10, 40, 80)
    with pytest.raises(ValueError, match="one standard error above 0"):
        compare_means([10], [1.0], [0.0])


def test_arms_that_agree_on_every_item_are_not_certainly_equal() -> None:
    """No difference among 50 items leaves room for one in some 25: two standard errors of a single item."""
    same = np.ones((2, 50))
    found = compare_arms((10, 20), same, same, seed=0)
    assert found.estimate.tolist() == [0.0, 0.0]
    assert found.upper == pytest.approx([1.96 / 50, 1.96 / 50], rel=1e-3)
    assert found.lower == pytest.approx([-1.96 / 50, -1.96 / 50], rel=1e-3)
