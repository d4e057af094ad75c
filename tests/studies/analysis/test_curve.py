import math
import time

import numpy as np
import pytest

from evals.estimates import bootstrap_interval, ratio, standard_error
from megatron_sft.studies.analysis.curve import (
    average,
    contrast_indices,
    from_items,
    from_means,
    resample_counts,
)

SCORES = np.array([[0.0, 1.0, 0.5, 1.0], [1.0, 1.0, 0.5, 0.0], [1.0, 1.0, 1.0, 1.0]])


def test_contrasts_are_each_step_against_base_then_the_last_against_those_between() -> None:
    later, earlier = contrast_indices(4)
    assert list(zip(later.tolist(), earlier.tolist(), strict=True)) == [(1, 0), (2, 0), (3, 0), (3, 1), (3, 2)]
    assert [index.tolist() for index in contrast_indices(2)] == [[1], [0]]


def test_resamples_draw_as_many_items_as_there_are() -> None:
    counts = resample_counts(7, seed=3, num_draws=500)
    assert counts.shape == (500, 7)
    assert np.all(counts.sum(axis=1) == 7)
    assert counts.mean() == 1.0
    # Binomial(7, 1/7): variance 6/7.
    assert counts.var() == pytest.approx(6 / 7, abs=0.05)
    assert np.array_equal(counts, resample_counts(7, seed=3, num_draws=500))


def test_means_and_errors_are_those_of_the_evaluator() -> None:
    generator = np.random.default_rng(0)
    scores = generator.binomial(3, 0.6, (3, 80)) / 3
    curve = from_items((0, 10, 20), scores, seed=1)
    differences = scores[2] - scores[1]
    assert curve.means == pytest.approx(scores.mean(axis=1))
    assert curve.stderr == pytest.approx([standard_error(row) for row in scores])
    assert curve.contrasts.estimate[2] == pytest.approx(differences.mean())
    assert curve.contrasts.stderr[2] == pytest.approx(standard_error(differences))
    interval = bootstrap_interval(scores[0], seed=1)
    assert interval is not None
    low, high = curve.band()
    assert (low[0], high[0]) == pytest.approx(interval, abs=0.015)


def test_draws_of_a_contrast_are_paired_over_steps() -> None:
    curve = from_items((0, 10, 20), SCORES, seed=0)
    for index, (later, earlier) in enumerate(zip(*contrast_indices(3), strict=True)):
        expected = curve.draws[:, later] - curve.draws[:, earlier]
        assert curve.contrasts.draws[:, index] == pytest.approx(expected)


def test_max_t_is_that_of_a_plain_loop() -> None:
    curve = from_items((0, 10, 20), SCORES, seed=0, num_draws=50)
    counts = resample_counts(4, seed=0, num_draws=50).astype(int)
    least = 1.0 / 4
    for draw in range(50):
        items = np.repeat(np.arange(4), counts[draw])
        largest = 0.0
        for later, earlier in ((1, 0), (2, 0), (2, 1)):
            all_items = SCORES[later] - SCORES[earlier]
            error = max(standard_error(all_items[items]) or 0.0, least)
            largest = max(largest, abs(all_items[items].mean() - all_items.mean()) / error)
        assert curve.contrasts.max_t[draw] == pytest.approx(largest, abs=1e-9)


def test_missing_items_leave_the_others_paired() -> None:
    scores = np.array([[0.0, 1.0, 0.5, np.nan], [1.0, np.nan, 0.5, 0.0], [1.0, 0.0, 1.0, 1.0]])
    curve = from_items((0, 1, 2), scores, seed=0)
    assert curve.means == pytest.approx([0.5, 0.5, 0.75])
    # Items 0 and 2; 0, 1 and 2; 0, 2 and 3.
    assert curve.contrasts.estimate == pytest.approx([0.5, 0.5 / 3, 1.5 / 3])
    # The mean over the items drawn that are there is a ratio: its jackknife error is close to the draws' spread.
    many = np.tile(scores, (1, 50))
    spread = from_items((0, 1, 2), many, seed=0).draws.std(axis=0)
    have = ~np.isnan(many)
    errors = [ratio(np.where(h, row, 0.0), h.astype(float)).stderr for h, row in zip(have, many, strict=True)]
    assert spread == pytest.approx(errors, rel=0.1)


def test_a_difference_that_no_item_shows_is_not_certain() -> None:
    curve = from_items((0, 10), np.ones((2, 30)), seed=0)
    assert curve.contrasts.stderr == pytest.approx([1 / 30])
    low, high = curve.contrasts.band()
    assert (low[0], high[0]) == pytest.approx((-1.96 / 30, 1.96 / 30), abs=1e-4)
    mixed = np.vstack([np.eye(30)[0], np.zeros(30), np.zeros(30)])
    bounds = from_items((0, 10, 20), mixed, seed=0).contrasts.band()
    assert bounds[0][2] < 0 < bounds[1][2]


def test_normal_draws_have_the_errors_that_were_given() -> None:
    curve = from_means((0, 10, 20), [50.0, 40.0, 60.0], [2.0, 2.0, 1.0], seed=0, correlation=0.5, num_draws=40_000)
    assert curve.draws.std(axis=0) == pytest.approx([2.0, 2.0, 1.0], rel=0.02)
    # 4 + 4 - 2 * 0.5 * 4; 4 + 1 - 2 * 0.5 * 2, twice.
    assert curve.contrasts.stderr == pytest.approx([2.0, math.sqrt(3), math.sqrt(3)])
    assert curve.contrasts.draws.std(axis=0) == pytest.approx(curve.contrasts.stderr, rel=0.02)
    # Dunnett's value for 2 comparisons with a control is 2.21; with the third contrast it is Tukey's 3.31 / sqrt(2).
    tukey = from_means((0, 10, 20), [0.0] * 3, [1.0] * 3, seed=0, num_draws=200_000)
    assert tukey.contrasts.critical() == pytest.approx(3.314 / math.sqrt(2), abs=0.02)


def test_average_of_benchmarks_has_the_errors_of_independent_ones() -> None:
    first = from_means((0, 10, 20), [1.0, 2.0, 3.0], [0.3] * 3, seed=0, num_draws=20_000)
    second = from_means((0, 20, 40), [3.0, 6.0, 9.0], [0.4] * 3, seed=1, num_draws=20_000)
    both = average([first, second])
    assert both.steps == (0, 20)
    assert both.means == pytest.approx([2.0, 4.5])
    assert both.stderr == pytest.approx([0.25, 0.25], rel=0.03)
    assert both.contrasts.stderr == pytest.approx([0.25 * math.sqrt(2)], rel=0.03)
    assert both.num_items is None


def test_band_of_an_average_with_a_small_benchmark_holds_what_it_says() -> None:
    generator = np.random.default_rng(0)
    num_held = 0
    for seed in range(300):
        curves = [
            from_items((0, 10, 20, 40), generator.binomial(1, chances, (4, num)).astype(float), 2 * seed + odd)
            for odd, (num, chances) in enumerate(((300, 0.5), (15, 0.5)))
        ]
        curve = average(curves)
        assert curve.num_items is not None and 15 < curve.num_items < 40
        low, high = curve.contrasts.band()
        num_held += bool(np.all((low <= 0) & (high >= 0)))
    # 95 %, less three standard errors of 300 studies.
    assert num_held / 300 > 0.95 - 0.038


@pytest.mark.parametrize("steps", [(10, 20), (0, 0), (0, 20, 10), (0,)])
def test_steps_must_rise_from_base(steps: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"rise from 0|at least two steps"):
        from_items(steps, np.zeros((len(steps), 5)), seed=0)


def test_steps_without_common_items_are_refused() -> None:
    scores = np.array([[0.0, 1.0, np.nan, np.nan], [np.nan, np.nan, 0.0, 1.0]])
    with pytest.raises(ValueError, match="share at least two items"):
        from_items((0, 10), scores, seed=0)


def test_a_benchmark_of_500_items_is_quick() -> None:
    scores = np.random.default_rng(0).binomial(3, 0.6, (9, 500)) / 3
    times = []
    for seed in range(5):
        start = time.process_time()
        from_items((0, 10, 20, 40, 80, 160, 320, 480, 640), scores, seed)
        times.append(time.process_time() - start)
    assert min(times) < 0.25, "measured alone: 15 ms"


def test_an_average_is_no_surer_than_its_benchmarks() -> None:
    # Nothing differs in any item: the draws have no width at all, which is no certainty.
    still = [from_items((0, 10, 20), np.zeros((3, 20)), seed) for seed in (0, 1)]
    low, high = average(still).contrasts.band()
    own = still[0].contrasts.band()[1]
    # One item in twenty of each, in one of two benchmarks or the other: sqrt(2) / 2 of its error alone.
    np.testing.assert_allclose(high, own / np.sqrt(2) * (high[0] * np.sqrt(2) / own[0]))
    assert 0.5 * own[0] < high[0] < own[0]
    np.testing.assert_allclose(low, -high)
    # One benchmark alone is as wide as it was, but for Student's distribution.
    alone = average(still[:1])
    np.testing.assert_allclose(alone.contrasts.stderr * np.sqrt(20 / 19), still[0].contrasts.stderr)
    # Where items do differ, the draws' own errors are about those.
    generator = np.random.default_rng(0)
    moving = [from_items((0, 10, 20), generator.integers(2, size=(3, 200)), seed) for seed in (0, 1)]
    together = np.sqrt(moving[0].contrasts.stderr ** 2 + moving[1].contrasts.stderr ** 2) / 2
    np.testing.assert_allclose(average(moving).contrasts.stderr, together, rtol=0.05)
