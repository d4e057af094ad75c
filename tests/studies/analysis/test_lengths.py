import numpy as np
import pytest

from megatron_sft.studies.analysis.curve import from_items, from_means
from megatron_sft.studies.analysis.lengths import (
    Turn,
    lengths_of,
    median,
    order_of_turns,
    restricted_mean,
    statistic,
    survival,
    turning_point,
)


def test_survival_is_that_of_the_textbook() -> None:
    # Remission times of Kaplan-Meier courses: 6, 6, 6, 6+, 7, 9+, 10, 10+, 11+, 13, 16.
    times = np.array([6, 6, 6, 6, 7, 9, 10, 10, 11, 13, 16], dtype=float)
    cut = np.array([0, 0, 0, 1, 0, 1, 0, 1, 1, 0, 0], dtype=bool)
    ends, longer = survival(times, cut, np.ones((1, 11)))
    expected = {6: 8 / 11, 7: 8 / 11 * 6 / 7, 9: 8 / 11 * 6 / 7, 10: 8 / 11 * 6 / 7 * 4 / 5}
    expected[11] = expected[10]
    expected[13] = expected[10] * 1 / 2
    expected[16] = 0.0
    assert dict(zip(ends.tolist(), longer[0].tolist(), strict=True)) == pytest.approx(expected)
    assert median(ends, longer) == 10
    area = 6 + expected[6] * 1 + expected[7] * 3 + expected[10] * 3 + expected[13] * 3
    assert restricted_mean(ends, longer, 16.0) == pytest.approx(area)
    assert restricted_mean(ends, longer, 8.0) == pytest.approx(6 + expected[6] + expected[7])


def test_one_budget_gives_the_plain_median_and_mean() -> None:
    generator = np.random.default_rng(0)
    tokens = np.minimum(generator.lognormal(4, 1, (1, 61)), 200.0)
    cut = tokens == 200.0
    assert 0 < cut.mean() < 0.5
    ends, longer = survival(tokens[0], cut[0], np.ones((1, 61)))
    assert median(ends, longer) == np.median(tokens)
    assert restricted_mean(ends, longer, 200.0) == pytest.approx(tokens.mean())


def test_weights_are_copies() -> None:
    times, cut = np.array([3.0, 5.0, 5.0, 8.0]), np.array([False, True, False, False])
    ends, weighted = survival(times, cut, np.array([[2.0, 0.0, 1.0, 3.0]]))
    chosen = [0, 0, 2, 3, 3, 3]
    ends_copied, copied = survival(times[chosen], cut[chosen], np.ones((1, 6)))
    assert ends.tolist() == ends_copied.tolist()
    assert weighted == pytest.approx(copied)


def test_half_cut_off_changes_the_statistic_for_all_steps() -> None:
    tokens = np.array([[[10.0], [20.0], [30.0]], [[40.0], [100.0], [100.0]]])
    cut = tokens == 100.0
    found = lengths_of((0, 10), tokens, cut, seed=0, num_draws=100)
    assert found.statistic == "restricted mean"
    assert found.limit == 100.0
    assert found.curve.means == pytest.approx([20.0, 80.0])
    assert found.share_cut == pytest.approx([0.0, 2 / 3])
    few = lengths_of((0, 10), np.where(cut, 50.0, tokens), np.zeros_like(cut), seed=0, num_draws=100)
    assert few.statistic == "median"
    assert few.curve.means == pytest.approx([20.0, 50.0])


def test_lengths_rise_and_fall_while_scores_dip() -> None:
    generator = np.random.default_rng(0)
    scale = np.array([300.0, 900.0, 2000.0, 700.0, 400.0])
    chance = np.array([0.6, 0.5, 0.45, 0.2, 0.7])
    tokens = generator.exponential(scale[:, None, None], (5, 200, 2))
    cut = tokens > 3000.0
    steps = (0, 10, 20, 40, 80)
    lengths = lengths_of(steps, np.minimum(tokens, 3000.0), cut, seed=5)
    assert lengths.statistic == "median"
    turn = turning_point(lengths.curve)
    assert (turn.turn, turn.step, turn.possible_steps) == (Turn.RISE_AND_FALL, 20, (20,))
    assert turn.rise[0] < np.log(2) * 1700 < turn.rise[1]
    assert turn.fall[0] < np.log(2) * 1600 < turn.fall[1]
    scores = from_items(steps, generator.binomial(2, chance[:, None], (5, 200)) / 2, seed=5)
    order = order_of_turns(lengths.curve, scores)
    assert order.length_first > 0.99
    assert order.length_first + order.same_step + order.score_first == pytest.approx(1)


@pytest.mark.parametrize(
    ("means", "turn"),
    [
        ((100, 200, 300, 400), Turn.RISE),
        ((400, 300, 200, 100), Turn.FALL),
        ((100, 101, 99, 100), Turn.NOT_RESOLVED),
        ((100, 300, 200, 100), Turn.RISE_AND_FALL),
    ],
)
def test_turns(means: tuple[float, ...], turn: Turn) -> None:
    assert turning_point(from_means((0, 1, 2, 3), means, [5.0] * 4, seed=0)).turn == turn


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match=r"lengths \(2, 3, 1\) and cut \(2, 3\)"):
        lengths_of((0, 10), np.ones((2, 3, 1)), np.ones((2, 3)), seed=0)


@pytest.mark.parametrize("budget", [None, 40.0, 12.0])
def test_one_budget_is_the_same_as_kaplan_and_meier(budget: float | None) -> None:
    generator = np.random.default_rng(0)
    times = generator.integers(1, 60, size=90).astype(float)
    cut = np.zeros(90, dtype=bool) if budget is None else times >= budget
    times = times if budget is None else np.minimum(times, budget)
    if budget is not None:
        # One that ended by itself just at the budget.
        times[0], cut[0] = budget, False
    weights = generator.integers(0, 4, size=(300, 90)).astype(float)
    limit = float(times.max())
    found = survival(times, cut, weights)
    np.testing.assert_array_equal(statistic(times, cut, weights, None), median(*found))
    np.testing.assert_allclose(statistic(times, cut, weights, limit), restricted_mean(*found, limit))
    np.testing.assert_allclose(statistic(times, cut, weights, 10.0), restricted_mean(*found, 10.0))
    if budget == 12.0:
        assert np.isnan(median(*found)).mean() > 0.5, "most are cut: there is no median to compare"
