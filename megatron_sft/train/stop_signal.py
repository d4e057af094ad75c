"""SIGTERM: what schedulers and torchrun send before they kill."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType


class StopSignal:
    """Remembers that this process was told to stop."""

    def __init__(self) -> None:
        """Nothing came yet."""
        self.received = False

    @contextlib.contextmanager
    def listen(self) -> Iterator["StopSignal"]:
        """Take SIGTERM for a block of code, which has to run in the main thread, instead of dying of it."""

        def remember(_: int, __: FrameType | None) -> None:
            self.received = True

        before = signal.signal(signal.SIGTERM, remember)
        try:
            yield self
        finally:
            signal.signal(signal.SIGTERM, before)
