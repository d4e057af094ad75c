"""The line that says how far a run is."""

import pytest

from megatron_sft.traces.progress import describe, duration


def test_speed_and_time_left_are_those_of_this_run() -> None:
    line = describe(num_total=1000, num_on_file=500, num_done=100, num_failed=40, num_tokens=60_000, seconds=30.0)
    assert line == "600 of 1000 samples (60.0 %), 2000 tokens/s, 600 tokens each, 40 failed, 2 min left"
    line = describe(num_total=10, num_on_file=0, num_done=0, num_failed=0, num_tokens=0, seconds=9.0)
    assert line == "0 of 10 samples (0.0 %), time left unknown"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (89, "89 s"), (90, "2 min"), (3600, "60 min"), (11_100, "3 h 05 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
