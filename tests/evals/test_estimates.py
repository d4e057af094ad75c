"""Estimates against closed forms, brute force and simulation with a known truth."""

import itertools
import math

import numpy as np
import pytest

from evals.estimates import (
    bootstrap_interval,
    length_summary,
    mean,
    means_by_item,
    paired_difference,
    ratio,
    seed_of,
    sign_flip_p,
    standard_error,
    sums_by_item,
)


def test_standard_error_of_single_samples_is_the_binomial_one() -> None:
    assert standard_error([1.0] * 3 + [0.0] * 7) == pytest.approx(math.sqrt(0.3 * 0.7 / 9))
    assert standard_error([1.0]) is None
    assert mean([]) is None


def test_samples_of_an_item_become_one_value() -> None:
    pairs = [("b", 1.0), ("b", 0.0), ("a", 1.0), ("b", 1.0)]
    assert list(means_by_item(pairs).items()) == [("b", 2 / 3), ("a", 1.0)]
    assert list(sums_by_item(pairs).items()) == [("b", 2.0), ("a", 1.0)]


def test_bootstrap_interval_of_shares_is_the_binomial_distributions() -> None:
    # Resampling n values with k ones draws Binomial(n, k/n)/n; its quantiles are exact.
    n, k = 50, 20
    mass = np.cumsum([math.comb(n, j) * (k / n) ** j * (1 - k / n) ** (n - j) for j in range(n + 1)])
    exact = [int(np.searchsorted(mass, level)) / n for level in (0.025, 0.975)]
    low, high = bootstrap_interval([1.0] * k + [0.0] * (n - k), seed=3, num_draws=20_000) or (0.0, 0.0)
    assert (low, high) == pytest.approx(exact, abs=1 / n)
    assert (low, high) != pytest.approx((0.4, 0.4), abs=0.1)


def test_bootstrap_interval_depends_on_values_and_seed_alone() -> None:
    values = list(np.random.default_rng(0).random(700))
    assert bootstrap_interval(values, 1) == bootstrap_interval(values, 1)
    assert bootstrap_interval(values, 1) != bootstrap_interval(values, 2)
    assert bootstrap_interval([0.5], 1) is None
    assert bootstrap_interval([1.0, 1.0, 1.0], 1) == (1.0, 1.0)


def test_chunks_do_not_change_what_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    values = list(np.random.default_rng(0).random(64))
    whole = bootstrap_interval(values, 1)
    monkeypatch.setattr("evals.estimates.CHUNK_VALUES", 640)
    assert bootstrap_interval(values, 1) == whole


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    # Items of different difficulty with 4 samples each: the truth is the mean difficulty, 1/2.
    generator = np.random.default_rng(11)
    num_trials, num_items = 400, 100
    difficulty = generator.beta(0.7, 0.7, size=(num_trials, num_items))
    means = generator.binomial(4, difficulty) / 4
    covered, within_two_errors = 0, 0
    for trial in range(num_trials):
        low, high = bootstrap_interval(means[trial], seed=trial, num_draws=500) or (1.0, 0.0)
        covered += low <= 0.5 <= high
        within_two_errors += abs(means[trial].mean() - 0.5) <= 1.96 * (standard_error(means[trial]) or 0.0)
    # 0.95 +- three standard errors of a share of 400 trials (0.033), and a little for the percentile method.
    assert 0.91 <= covered / num_trials <= 0.985
    assert 0.91 <= within_two_errors / num_trials <= 0.985
    # Taking all 400 samples for independent would be far too sure: the clusters are needed.
    naive = math.sqrt(0.25 / (4 * num_items))
    assert np.mean(np.abs(means.mean(axis=1) - 0.5) <= 1.96 * naive) < 0.87


def test_ratio_and_its_jackknife_by_leaving_out_each_item() -> None:
    tops, bottoms = [1.0, 0.0, 2.0, 3.0], [1.0, 2.0, 2.0, 4.0]
    left_out = [
        sum(tops[:i] + tops[i + 1 :]) / sum(bottoms[:i] + bottoms[i + 1 :])  # a literal jackknife
        for i in range(4)
    ]
    center = sum(left_out) / 4
    found = ratio(tops, bottoms)
    assert found.value == pytest.approx(6 / 9)
    assert found.stderr == pytest.approx(math.sqrt(3 / 4 * sum((value - center) ** 2 for value in left_out)))


def test_ratio_over_equal_denominators_is_the_mean() -> None:
    tops = [1.0, 0.0, 2.0, 3.0]
    found = ratio(tops, [2.0] * 4)
    assert found.value == pytest.approx(0.75)
    assert found.stderr == pytest.approx(standard_error([top / 2 for top in tops]))


@pytest.mark.parametrize(
    ("tops", "bottoms", "value"),
    [([], [], None), ([0.0], [0.0], None), ([1.0], [2.0], 0.5), ([1.0, 0.0], [2.0, 0.0], 0.5)],
)
def test_ratio_without_spread_has_no_error(tops: list[float], bottoms: list[float], value: float | None) -> None:
    assert (ratio(tops, bottoms).value, ratio(tops, bottoms).stderr) == (value, None)


def test_sign_flip_equals_all_sign_assignments() -> None:
    differences = [0.5, 0.25, -0.25, 1.0, 0.75, 0.0, 0.5]
    seen = abs(sum(differences))
    sums = [
        abs(sum(sign * value for sign, value in zip(signs, differences, strict=True)))
        for signs in itertools.product((1, -1), repeat=len(differences))
    ]
    assert sign_flip_p(differences, 0) == sum(total >= seen for total in sums) / len(sums) == pytest.approx(6 / 64)


def test_drawn_sign_flips_come_near_the_binomial_test() -> None:
    # 18 of 24 items changed for the better: the sign test's two-sided p is 2 P(Binomial(24, 1/2) >= 18).
    exact = 2 * sum(math.comb(24, j) for j in range(18, 25)) / 2**24
    found = sign_flip_p([1.0] * 18 + [-1.0] * 6 + [0.0] * 300, seed=5)
    assert found == pytest.approx(exact, abs=4 * math.sqrt(exact / 10_000))
    assert sign_flip_p([1.0] * 200, seed=5) == 1 / 10_001
    assert sign_flip_p([0.0, 0.0], seed=5) == 1.0


def test_sign_flip_p_is_uniform_when_models_are_alike() -> None:
    generator = np.random.default_rng(4)
    found = [sign_flip_p(generator.normal(size=30), seed, num_draws=500) for seed in range(300)]
    # 5 % of 300, with three standard errors on both sides.
    assert 0.012 <= np.mean(np.array(found) <= 0.05) <= 0.088


def test_paired_difference_uses_common_items_and_names_the_others() -> None:
    first = {"a": 1.0, "b": 0.5, "c": 0.0, "x": 1.0}
    second = {"c": 0.5, "b": 0.5, "a": 0.0, "y": 1.0, "z": 0.0}
    found = paired_difference(first, second, seed=1)
    assert found.difference == pytest.approx(0.5 / 3)
    assert found.stderr == pytest.approx(np.std([1.0, 0.0, -0.5], ddof=1) / math.sqrt(3))
    assert (found.num_items, found.only_in_first, found.only_in_second) == (3, ("x",), ("y", "z"))
    # The signs of 1 and 1/2: all four sums have at least the size 1/2.
    assert found.p_value == 1.0


def test_a_paired_difference_is_surer_than_two_scores() -> None:
    generator = np.random.default_rng(2)
    difficulty = generator.random(200)
    first = {str(n): float(generator.random() < p) for n, p in enumerate(difficulty)}
    second = {item: max(value, float(generator.random() < 0.1)) for item, value in first.items()}
    found = paired_difference(second, first, seed=1)
    unpaired = math.hypot(standard_error(list(first.values())) or 0, standard_error(list(second.values())) or 0)
    assert found.stderr is not None
    assert found.stderr < unpaired / 2
    assert found.interval is not None
    assert found.interval[0] < (found.difference or 0) < found.interval[1]


def test_paired_difference_without_common_items() -> None:
    found = paired_difference({"a": 1.0}, {"b": 1.0}, seed=1)
    assert (found.difference, found.stderr, found.interval, found.p_value, found.num_items) == (None,) * 4 + (0,)


def test_length_summary() -> None:
    assert length_summary([5, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11]) == {"mean": 6.0, "median": 6.0, "p90": 10.0, "num": 11}
    assert length_summary([1, 2]) == {"mean": 1.5, "median": 1.5, "p90": pytest.approx(1.9), "num": 2}
    assert length_summary([]) == {"mean": None, "median": None, "p90": None, "num": 0}


def test_seeds_differ_by_task_and_seed() -> None:
    assert len({seed_of("a", 1), seed_of("a", 2), seed_of("b", 1), seed_of("a1", "")}) == 4
    assert seed_of("a", 1) == seed_of("a", 1) < 2**128
