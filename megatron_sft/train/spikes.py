"""Notices a loss or gradient norm that stands out from the last iterations."""

import statistics
from collections import deque
from collections.abc import Iterable

_LEAST_VALUES = 8
"""With fewer iterations behind it, nothing can stand out."""
_NORMAL = 1.4826
"""Standard deviation of a normal distribution / its median absolute deviation."""
_LEAST_SPREAD = 1e-3
"""Of the median: what varies less than this counts as varying so much, lest rounding be a spike."""


class SpikeDetector:
    """Watches one figure. Robust: a spike among the last values hardly moves their median and spread."""

    def __init__(self, *, window: int, factor: float) -> None:
        """Compare with the last `window` values; warn above median + `factor` robust standard deviations."""
        self._values: deque[float] = deque(maxlen=window)
        self._factor = factor

    def limit(self) -> float | None:
        """What the next value must not exceed; None as long as there are too few."""
        if len(self._values) < min(_LEAST_VALUES, self._values.maxlen or 0):
            return None
        median = statistics.median(self._values)
        deviation = _NORMAL * statistics.median(abs(value - median) for value in self._values)
        return median + self._factor * max(deviation, _LEAST_SPREAD * abs(median))

    def exceeds(self, value: float) -> float | None:
        """The limit if `value` exceeds it, else None; `value` is one of the last ones from then on."""
        limit = self.limit()
        self._values.append(value)
        return limit if limit is not None and value > limit else None

    def extend(self, values: Iterable[float]) -> None:
        """Take values of an earlier part of the run as the last ones."""
        self._values.extend(values)
