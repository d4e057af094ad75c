"""A spike is what stands out from the last values, by their median and spread."""

import random

import pytest

from megatron_sft.train.spikes import SpikeDetector


def detector_of(values, *, window=8, factor=6.0):
    detector = SpikeDetector(window=window, factor=factor)
    detector.extend(values)
    return detector


def test_the_limit_by_hand():
    # Median 4.5, absolute deviations 3.5 2.5 1.5 0.5 0.5 1.5 2.5 3.5 with median 2.
    assert detector_of([1, 2, 3, 4, 5, 6, 7, 8]).limit() == pytest.approx(4.5 + 6 * 1.4826 * 2)


def test_only_what_exceeds_the_limit_is_a_spike_and_falling_is_none():
    detector = detector_of([1, 2, 3, 4, 5, 6, 7, 8])
    assert detector.exceeds(22.0) is None
    assert detector.exceeds(-1000.0) is None
    limit = detector.limit()
    assert limit is not None
    assert detector.exceeds(limit + 1e-6) == limit


def test_a_spike_hardly_moves_the_limit():
    values = [2.0, 2.1, 1.9, 2.05, 1.95, 2.0, 2.1, 1.9]
    detector = detector_of(values)
    assert detector.exceeds(50.0) is not None
    assert detector.exceeds(50.0) is not None
    # The mean is above 14 by now.
    assert detector.limit() < 4.0


def test_with_few_values_nothing_stands_out():
    detector = detector_of([1.0] * 7)
    assert detector.exceeds(1e9) is None


def test_equal_values_leave_room_for_rounding():
    detector = detector_of([2.0] * 8)
    assert detector.exceeds(2.0 * (1 + 1e-4)) is None
    assert detector.exceeds(2.1) == pytest.approx(2.0 + 6 * 2e-3)


def test_ordinary_noise_on_a_falling_curve_raises_no_alarm_in_a_long_run():
    draws = random.Random(0)
    detector = SpikeDetector(window=64, factor=6.0)
    alarms = [
        step
        for step in range(20_000)
        if detector.exceeds(0.4 + 2.0 / (1 + step / 100) + draws.gauss(0, 0.02)) is not None
    ]
    assert alarms == []
