"""Where a rank is: noted at each phase, shared with the other ranks, and named in profiler traces."""

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TypeVar

import torch

from megatron_sft.model.device import Device

T = TypeVar("T")

STARTING = "starting"
DATA_WAIT = "waiting for data"
FORWARD_BACKWARD = "forward-backward"
REDUCING = "reducing gradients"
CHECKING = "checking loss and gradient norm"
UPDATING = "updating"
FIGURES = "gathering figures"
SAVING = "saving"
PHASES = (STARTING, DATA_WAIT, FORWARD_BACKWARD, REDUCING, CHECKING, UPDATING, FIGURES, SAVING)
"""In the order of an iteration."""


@dataclass(frozen=True, kw_only=True)
class Note:
    """What a rank is doing."""

    iteration: int = 0
    """Counted from 1; 0 before the first."""
    phase: str = STARTING
    """One of `PHASES`."""
    row: int = 0
    """In forward-backward: the row (micro-batch) that was begun last, counted from 1."""
    num_rows: int = 0
    """Rows of this rank in the iteration."""
    since: float = 0.0
    """When this began, seconds since 1970 by the rank's clock."""

    def __str__(self) -> str:
        """Such as `iteration 3, forward-backward, row 2 of 5`."""
        row = f", row {self.row} of {self.num_rows}" if self.row else ""
        return f"iteration {self.iteration}, {self.phase}{row}"

    @property
    def order(self) -> tuple[int, int, int]:
        """Grows as a rank gets on."""
        return self.iteration, PHASES.index(self.phase), self.row

    def to_json(self) -> str:
        """For the other ranks."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str | bytes) -> "Note":
        """What `to_json` wrote."""
        return Note(**json.loads(text))


class Progress:
    """Holds the note of this rank, and the time that it spent computing."""

    def __init__(self, device: Device) -> None:
        """Nothing has begun."""
        self.note = Note(since=time.time())
        self.publish: Callable[[Note], None] | None = None
        """Called with each new note, in the thread that trains: must be quick."""
        self._stopwatch = _Stopwatch(device)

    @contextlib.contextmanager
    def phase(self, phase: str, iteration: int | None = None) -> Iterator[None]:
        """Be in a phase, by default of the iteration that the last one belonged to; a range in profiler traces."""
        self._set(Note(iteration=self.note.iteration if iteration is None else iteration, phase=phase))
        with torch.profiler.record_function(phase):
            yield

    @contextlib.contextmanager
    def forward_backward(self) -> Iterator[None]:
        """The phase whose time counts as computing, up to `reducing`."""
        with self.phase(FORWARD_BACKWARD):
            self._stopwatch.start()
            yield

    def rows(self, rows: Sequence[T]) -> Iterator[T]:
        """The rows of forward-backward, noting each as it is taken."""
        for number, row in enumerate(rows, start=1):
            self._set(replace(self.note, row=number, num_rows=len(rows)))
            yield row

    def reducing(self) -> None:
        """Every row of this rank went through; what follows waits for other ranks."""
        self._stopwatch.stop()
        self._set(Note(iteration=self.note.iteration, phase=REDUCING))

    def compute_seconds(self) -> float:
        """Seconds of the last forward-backward on this rank, without reducing gradients; needs idle queues on a GPU."""
        return self._stopwatch.seconds()

    def _set(self, note: Note) -> None:
        self.note = replace(note, since=time.time())
        if self.publish:
            self.publish(self.note)


class _Stopwatch:
    """Seconds between two places of the program, as the device gets there."""

    def __init__(self, device: Device) -> None:
        self._is_cpu = device.is_cpu
        self._times = (0.0, 0.0)
        self._events = None if device.is_cpu else [_timing_event() for _ in range(2)]

    def start(self) -> None:
        self._mark(0)

    def stop(self) -> None:
        self._mark(1)

    def seconds(self) -> float:
        if self._events:
            return float(self._events[0].elapsed_time(self._events[1])) / 1e3
        return self._times[1] - self._times[0]

    def _mark(self, which: int) -> None:
        if self._events:
            self._events[which].record()
        else:
            now = time.perf_counter()
            self._times = (now, now) if which == 0 else (self._times[0], now)


def _timing_event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
