import numpy as np
import pytest

from megatron_sft.studies.analysis.curve import from_items
from megatron_sft.studies.analysis.power import change_stderr, detectable_change
from megatron_sft.studies.analysis.shape import shape_of


def test_standard_error_of_one_sample_is_that_of_two_binomials() -> None:
    # sqrt(2 * 0.25 / 500): one sample for each item, independent items.
    assert change_stderr(score=0.5, num_items=500) == pytest.approx(0.0316, abs=1e-4)
    # Many samples of items that keep their chance leave nothing.
    assert change_stderr(score=0.5, num_items=500, num_samples=10**9, correlation=1.0) == pytest.approx(0, abs=1e-6)


def test_variance_parts_are_those_of_a_simulation() -> None:
    generator = np.random.default_rng(0)
    # Beta(1, 1): mean 1/2, variance 1/12 of p (1 - p) = 1/4: a third lies between items. Chances stay: correlation 1.
    chances = generator.random((20_000, 50))
    answers = generator.binomial(3, chances, (2, 20_000, 50)) / 3
    seen = (answers[1].mean(axis=1) - answers[0].mean(axis=1)).std()
    expected = change_stderr(score=0.5, num_items=50, num_samples=3, item_share=1 / 3, correlation=1.0)
    assert seen == pytest.approx(expected, rel=0.02)


def test_critical_value_is_bonferronis() -> None:
    # 9 steps: 15 contrasts, 0.05 / 30 on each side: 2.935; and 0.842 for a power of 80 %.
    assert detectable_change(1.0, 9) == pytest.approx(2.935 + 0.842, abs=2e-3)
    # Base and one step: the usual 1.96 + 0.84.
    assert detectable_change(1.0, 2) == pytest.approx(2.80, abs=2e-3)


def test_what_is_called_detectable_is_found_four_times_of_five() -> None:
    generator = np.random.default_rng(0)
    stderr = change_stderr(score=0.5, num_items=300, num_samples=1, item_share=0.0)
    change = detectable_change(stderr, 6)
    chances = np.array([0.5 + change / 2, 0.5 - change / 2] + [0.5 + change / 2] * 4)
    found, stated = [], []
    for seed in range(300):
        scores = generator.binomial(1, chances[:, None], (6, 300)).astype(float)
        shape = shape_of(from_items((0, 10, 20, 40, 80, 160), scores, seed, num_draws=500), margin=0.05)
        found.append(shape.upper[0] < 0)
        stated.append(shape.detectable)
    assert 0.72 < np.mean(found) < 0.88
    assert np.mean(stated) == pytest.approx(change, rel=0.05)


def test_impossible_values_are_refused() -> None:
    with pytest.raises(ValueError, match=r"score 1\.0, num_items 30"):
        change_stderr(score=1.0, num_items=30)
