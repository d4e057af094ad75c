import numpy as np
import pytest

from megatron_sft.studies.analysis.extraction import gain_parts


def test_parts_sum_to_the_gain() -> None:
    generator = np.random.default_rng(0)
    extracted = generator.binomial(4, 0.7, (5, 40)) / 4
    scores = np.floor(generator.random((5, 40)) * (4 * extracted + 1)) / 4
    parts = gain_parts((0, 10, 20, 40, 80), scores, extracted, seed=0)
    assert parts.form + parts.accuracy == pytest.approx(parts.gain)
    assert parts.gain == pytest.approx(scores[1:].mean(axis=1) - scores[0].mean())
    assert np.abs(parts.form).min() > 0


def test_form_alone_and_accuracy_alone() -> None:
    # Base: 10 of 20 extracted, 5 right. Step 10: all extracted, half of them right. Step 20: 10 extracted, all right.
    right, found = np.zeros((3, 20)), np.zeros((3, 20))
    found[0, :10], right[0, :5] = 1, 1
    found[1], right[1, :10] = 1, 1
    found[2, :10], right[2, :10] = 1, 1
    parts = gain_parts((0, 10, 20), right, found, seed=0)
    assert parts.steps == (10, 20)
    assert parts.gain == pytest.approx([0.25, 0.25])
    assert parts.form == pytest.approx([0.25, 0.0])
    assert parts.accuracy == pytest.approx([0.0, 0.25])
    assert parts.accuracy_among_extracted == pytest.approx([0.5, 0.5, 1.0])
    low, high = parts.form_interval
    assert low[0] > 0
    # The same items are extracted at base and step 20, in every resample.
    assert (low[1], high[1]) == pytest.approx((0, 0), abs=1e-12)


def test_both_change() -> None:
    # e: 0.5 to 1, a: 0.4 to 0.6. Form 0.5 * 0.5, accuracy 0.2 * 0.75.
    right, found = np.zeros((2, 20)), np.zeros((2, 20))
    found[0, :10], right[0, :4] = 1, 1
    found[1], right[1, :12] = 1, 1
    parts = gain_parts((0, 10), right, found, seed=0)
    assert (parts.form[0], parts.accuracy[0], parts.gain[0]) == pytest.approx((0.25, 0.15, 0.4))


def test_nothing_extracted_at_base_makes_all_of_it_form() -> None:
    right, found = np.zeros((3, 10)), np.zeros((3, 10))
    found[1, :8], right[1, :6] = 1, 1
    parts = gain_parts((0, 10, 20), right, found, seed=0)
    assert parts.form == pytest.approx([0.6, 0.0])
    assert parts.accuracy == pytest.approx([0.0, 0.0])
    assert np.isnan(parts.accuracy_among_extracted[[0, 2]]).all()


def test_more_right_than_extracted_is_refused() -> None:
    with pytest.raises(ValueError, match="more right answers than extracted"):
        gain_parts((0, 10), np.ones((2, 3)), np.full((2, 3), 0.5), seed=0)
