"""Ends a run that hangs, and says where each rank was last seen.

Each rank writes its note to the key-value store that the ranks met at (tens of microseconds). Under torchrun the store
lives in the launcher, so notes of ranks that are stopped or dead can still be read.
"""

import contextlib
import faulthandler
import itertools
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.distributed import PrefixStore  # type: ignore[attr-defined]

from megatron_sft.errors import UserError
from megatron_sft.train.progress import DATA_WAIT, Note, Progress

EXIT_STATUS = 75
"""Of a process that its watchdog ended (EX_TEMPFAIL: the same command may succeed)."""
SHARE_OF_TIMEOUT = 0.9
"""The watchdog speaks before the collectives' own timeout ends the process: NCCL's aborts without a word of ours."""
_STDERR = 2
"""File descriptor: what faulthandler writes to."""
_POLLS = 20
"""Looks at the note so many times in its limit."""
_GRACE_S = 2.0
"""Others leave so much later than the rank that prints the list: a launcher kills all ranks once one is gone."""


class Board:
    """The notes of all ranks, in the store of the default process group."""

    def __init__(self, store: Any, rank: int, world_size: int) -> None:
        """Open connections of its own, which nobody else's waiting can block; reading may block, writing does not."""
        prefix = "megatron_sft/progress/"
        self._writing, self._reading = (PrefixStore(prefix, store.clone()) for _ in range(2))
        self.rank = rank
        self.world_size = world_size

    def write(self, note: Note) -> None:
        """Put up this rank's note. A store that is gone is no reason to stop: collectives will say so."""
        with contextlib.suppress(RuntimeError):
            self._writing.set(str(self.rank), note.to_json())

    def read(self, seconds: float) -> dict[int, Note] | None:
        """Notes by rank, of those that wrote one; None when the store does not answer in time."""
        found: dict[int, Note] = {}
        return found if self._answers(lambda: self._read_into(found), seconds) else None

    def is_first_to_report(self, seconds: float) -> bool:
        """Whether no rank asked this before; True as well when the store does not answer in time."""
        number: list[int] = []
        self._answers(lambda: number.append(self._reading.add("reports", 1)), seconds)
        return number in ([], [1])

    def _read_into(self, found: dict[int, Note]) -> None:
        for rank in range(self.world_size):
            if self._reading.check([str(rank)]):
                found[rank] = Note.from_json(self._reading.get(str(rank)))

    def _answers(self, question: Callable[[], object], seconds: float) -> bool:
        answered = threading.Event()

        def ask() -> None:
            with contextlib.suppress(RuntimeError):
                question()
                answered.set()

        threading.Thread(target=ask, name="watchdog asks", daemon=True).start()
        return answered.wait(seconds)


@dataclass(frozen=True, kw_only=True)
class Watchdog:
    """Watches this rank's note from a thread of its own."""

    progress: Progress
    """Of this rank."""
    board: Board | None
    """None with one process."""
    timeout_s: float
    """Of the collectives, seconds."""

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Train in here. An error of another rank or of the network is raised after the list of ranks is printed."""
        if self.board:
            self.progress.publish = self.board.write
        done = threading.Event()
        thread = threading.Thread(target=self._watch, args=(done,), name="watchdog", daemon=True)
        thread.start()
        try:
            yield
        except RuntimeError as error:
            # gloo and NCCL raise plain RuntimeErrors for peers that are gone or silent.
            if self.board and not isinstance(error, UserError):
                _say(f"rank {self.board.rank} failed in {self.progress.note}: {_first_line(error)}")
                self._say_where_ranks_are()
            raise
        finally:
            done.set()
            thread.join()
            self.progress.publish = None

    def _watch(self, done: threading.Event) -> None:
        limit = SHARE_OF_TIMEOUT * self.timeout_s
        seen, unchanged_since = self.progress.note, time.monotonic()
        while not done.wait(limit / _POLLS):
            note = self.progress.note
            if note is not seen:
                seen, unchanged_since = note, time.monotonic()
            elif time.monotonic() - unchanged_since >= limit and self._must_go_on(note):
                self._end(limit, note)
            if self.board:
                # Code that keeps Python's lock keeps this thread from running: then C code ends the process.
                faulthandler.dump_traceback_later(self.timeout_s, exit=True, file=_STDERR)
        faulthandler.cancel_dump_traceback_later()

    def _must_go_on(self, note: Note) -> bool:
        """A single process may compute for as long as it likes: nobody waits for it."""
        return self.board is not None or note.phase == DATA_WAIT

    def _end(self, limit: float, note: Note) -> None:
        """Print what is known and end the process, whatever its other threads are stuck in."""
        rank = self.board.rank if self.board else 0
        headline = (
            f"rank {rank}: no progress for {limit:.4g} s in {note}; stopping (status {EXIT_STATUS}). If this phase may "
            f"take longer, raise --distributed-timeout-minutes (now {self.timeout_s / 60:g})"
        )
        # First what needs no other rank.
        faulthandler.cancel_dump_traceback_later()
        _say(headline)
        faulthandler.dump_traceback(_STDERR, all_threads=True)
        if not self._say_where_ranks_are():
            time.sleep(_GRACE_S)
        os._exit(EXIT_STATUS)

    def _say_where_ranks_are(self) -> bool:
        """Print the list of ranks, unless another rank has begun to; returns whether this rank is the one."""
        if self.board is None:
            return True
        patience = min(10.0, self.timeout_s)
        if not self.board.is_first_to_report(patience):
            return False
        notes = self.board.read(patience)
        if notes is None:
            _say("the store that the ranks met at does not answer: the node or process that holds it is gone")
        else:
            _say(*describe(notes, self.board.world_size, time.time()))
        return True


def open_board() -> Board | None:
    """The board of the default process group; None where there is one process."""
    world_size = torch.distributed.get_world_size()
    if world_size == 1:
        return None
    store = torch.distributed.distributed_c10d._get_default_store()
    return Board(store, torch.distributed.get_rank(), world_size)


def describe(notes: Mapping[int, Note], world_size: int, now: float) -> list[str]:
    """Lines that say where each rank was last seen, consecutive ranks at the same place on one line.

    Args:
        notes: by rank; ranks without a note are named too.
        world_size: number of ranks.
        now: seconds since 1970.
    """
    lines = ["where each rank was last seen:"]
    places = [str(notes[rank]) if rank in notes else "never seen" for rank in range(world_size)]
    for place, group in itertools.groupby(range(world_size), key=places.__getitem__):
        ranks = list(group)
        name = f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {ranks[0]} to {ranks[-1]}"
        ages = [now - notes[rank].since for rank in ranks if rank in notes]
        lines.append(f"  {name}: {place}{f', for {max(ages):.1f} s' if ages else ''}")
    if len(set(places)) > 1:
        missing = [rank for rank in range(world_size) if rank not in notes]
        least = min((note.order for note in notes.values()), default=None)
        behind = missing or [rank for rank, note in sorted(notes.items()) if note.order == least]
        lines.append(f"  furthest behind: rank {', '.join(map(str, behind))}")
    return lines


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0][:300]


def _say(*lines: str) -> None:
    print("\n".join(lines), file=sys.__stderr__, flush=True)
