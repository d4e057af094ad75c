"""Runs the stages of a graph on this machine: what is done is skipped, what was interrupted goes on."""

import contextlib
import fcntl
import os
import shutil
import signal
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any, Literal

from megatron_sft.errors import ConfigError, Interrupted, UserError
from megatron_sft.stages.graph import Graph, Stage, printable
from megatron_sft.stages.marks import FOLDER, Mark, Marks, changes, key_of
from megatron_sft.stages.programs import ROOT, run_program

LOCK = "lock"
LOGS = "logs"
_WAIT_S = 150.0

Decision = Literal["done", "to do", "go on", "try again", "do afresh", "waits", "blocked"]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What would become of a stage now."""

    stage: Stage
    decision: Decision
    """waits: for stages that are not done; blocked: something from elsewhere is missing."""
    why: str = ""
    mark: Mark | None = None
    """As it is on file."""
    ready: tuple[str, ...] = ()
    """Those of the stages before it that are done."""


class LocalRunner:
    """Runs stages of one graph in one folder."""

    def __init__(self, graph: Graph, output: Path, *, root: Path = ROOT) -> None:
        """Take a graph and the run's folder; nothing is read yet.

        Args:
            graph: the stages.
            output: the run's folder; a relative one is meant from `root`, as in the commands.
            root: where the programs run.
        """
        self.graph, self.output, self._root = graph, output, root
        self._folder = root / output
        self.marks = Marks(self._folder)

    def verdicts(self) -> dict[str, Verdict]:
        """Say of each stage what would become of it; nothing is written but hashes of inputs."""
        found: dict[str, Verdict] = {}
        for stage in self.graph:
            found[stage.name] = self._verdict(stage, {name: found[name] for name in stage.after})
        return found

    def run(self, names: Collection[str]) -> dict[str, Mark]:
        """Run these stages in the graph's order; a failure blocks what depends on it, and nothing else.

        Returns:
            Their marks.

        Raises:
            ConfigError: when another run is at work in the folder.
            Interrupted: after SIGTERM; the program that ran has been told to stop.
        """
        found: dict[str, Mark] = {}
        with locked(self._folder / FOLDER / LOCK):
            for number, stage in enumerate([stage for stage in self.graph if stage.name in names], start=1):
                print(f"\n[{number}/{len(names)}] {stage.name}: {stage.title}", flush=True)
                found[stage.name] = self.run_one(stage.name)
        return found

    def run_one(self, name: str, launcher: Sequence[str] | None = None) -> Mark:
        """Run exactly one stage, if it is not done.

        Args:
            name: the stage.
            launcher: words for {torchrun}.

        Returns:
            Its mark: done, failed or blocked.

        Raises:
            ConfigError: when another process is at work on this stage.
            Interrupted: after SIGTERM.
        """
        stage = self.graph[name]
        with locked(self._folder / FOLDER / f".{name}.{LOCK}") as lock:
            verdict = self.verdicts()[name]
            if verdict.decision == "done":
                assert verdict.mark is not None
                print(f"  already done, in {verdict.mark.seconds:.0f} s", flush=True)
                return verdict.mark
            mark = self._new_mark(verdict, launcher)
            if mark.state == "blocked":
                print(f"  blocked: {verdict.why}", flush=True)
                self.marks.write(name, mark)
                return mark
            if verdict.decision == "do afresh":
                print(f"  done afresh: {verdict.why}", flush=True)
                remove(self._outputs(stage))
            self._run_programs(stage, mark, launcher, lock)
        return mark

    def _verdict(self, stage: Stage, before: dict[str, Verdict]) -> Verdict:
        mark = self.marks.read(stage.name)
        ready = tuple(name for name, one in before.items() if one.decision == "done")

        def found(decision: Decision, why: str = "") -> Verdict:
            return Verdict(stage=stage, decision=decision, why=why, mark=mark, ready=ready)

        undone = [name for name in before if name not in ready]
        if undone and not (stage.is_tolerant and ready):
            return found("waits", ", ".join(_undone(name, before[name]) for name in undone))
        missing = [path for path in stage.inputs.values() if not (self._root / path).exists()]
        if missing:
            return found("blocked", f"{missing[0]} does not exist")
        if mark is None or not mark.parts:
            return found("to do")
        parts = self._parts(stage, ready)
        if mark.key != key_of(parts):
            return found("do afresh", changes(mark.parts, parts))
        if mark.state != "done":
            return found("try again" if mark.state == "failed" else "go on", mark.reason)
        gone = [path for path in self._outputs(stage) if not path.exists()]
        return found("do afresh", f"{gone[0]} is gone") if gone else found("done")

    def _parts(self, stage: Stage, ready: Collection[str]) -> dict[str, Any]:
        """Return what decides over a stage's outputs, when these of the stages before it are done."""
        marks = {name: self.marks.read(name) if name in ready else None for name in stage.after}
        keys = {name: mark.key if mark is not None else None for name, mark in marks.items()}
        return self.marks.parts_of(stage, keys, self._root)

    def _new_mark(self, verdict: Verdict, launcher: Sequence[str] | None) -> Mark:
        """Return what the mark becomes; time and attempts of attempts with the same key are kept."""
        stage, old = verdict.stage, verdict.mark
        facts: dict[str, Any] = {
            "kind": stage.kind,
            "title": stage.title,
            "command": [printable(words) for words in stage.filled(self.output, launcher)],
        }
        if verdict.decision in ("waits", "blocked"):
            # What decided over outputs that are there is kept: these may be whole, and count again later.
            mark = old or Mark(key="", parts={}, state="blocked")
            return replace(mark, state="blocked", why=verdict.why, **facts)
        parts = self._parts(stage, verdict.ready)
        mark = Mark(key=key_of(parts), parts=parts, state="running", **facts)
        if old is not None and old.key == mark.key and verdict.decision != "do afresh":
            mark.seconds, mark.attempts = old.seconds, old.attempts
        return mark

    def _run_programs(self, stage: Stage, mark: Mark, launcher: Sequence[str] | None, lock: int) -> None:
        clock, before = time.monotonic(), mark.seconds

        def note() -> None:
            mark.seconds = round(before + time.monotonic() - clock, 1)
            self.marks.write(stage.name, mark)

        mark.attempts, mark.started = mark.attempts + 1, _now()
        note()
        log = self._folder / LOGS / f"{stage.name}.log"
        log.unlink(missing_ok=True)
        try:
            for words in stage.filled(self.output, launcher):
                print(f"  $ {printable(words)}", flush=True)
                run_program(words, log, folder=self._root, is_continued=True, held=[lock], on_heartbeat=note)
            missing = [path for path in self._outputs(stage) if not path.exists()]
            if missing:
                raise UserError(f"ended without an error but without {missing[0]}: see {log}")
            mark.state, mark.why = "done", ""
        except UserError as error:
            mark.state, mark.why = "failed", str(error)
        except (KeyboardInterrupt, Interrupted):
            mark.why = "interrupted"
            raise
        finally:
            mark.ended = _now()
            note()
        text = f"done in {mark.seconds:.0f} s" if mark.state == "done" else f"FAILED: {mark.why}"
        print(f"  {text}{f', attempt {mark.attempts}' if mark.attempts > 1 else ''}", flush=True)

    def _outputs(self, stage: Stage) -> list[Path]:
        return [self._root / path for path in stage.output_paths(self.output)]


@contextlib.contextmanager
def stopped_by_sigterm() -> Iterator[None]:
    """Let SIGTERM raise `Interrupted` in a block of code, which has to run in the main thread."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise Interrupted("stopped; the same command goes on from here")

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[int]:
    """Keep others out; yields the descriptor that holds the lock.

    Programs inherit the descriptor of their stage. Where the process that started them was killed, they hold the lock
    until they have ended, which is waited for.

    Raises:
        ConfigError: when another process has the lock and is alive.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _acquire(descriptor, path)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.uname().nodename} {os.getpid()}".encode(), 0)
        yield descriptor
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, path: Path) -> None:
    deadline = time.monotonic() + _WAIT_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            owner = os.pread(descriptor, 200, 0).decode(errors="replace")
            host, _, pid = owner.partition(" ")
            is_dead = host == os.uname().nodename and pid.isdecimal() and not Path(f"/proc/{pid}").exists()
            if not is_dead or time.monotonic() > deadline:
                raise ConfigError(
                    f"{path.parent.parent}: another run is at work there ({owner}); wait for it, or stop it"
                ) from None
            if deadline - time.monotonic() > _WAIT_S - 0.5:
                print(f"  waiting for programs of the killed process {pid} to end", flush=True)
            time.sleep(0.5)


def remove(paths: Collection[Path]) -> None:
    """Delete files and folders, if they are there."""
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _undone(name: str, verdict: Verdict) -> str:
    state = verdict.mark.state if verdict.mark is not None else "to do"
    if state in ("failed", "blocked"):
        return f"{name} is {state}"
    return f"{name} is not done"


def _now() -> str:
    return datetime.now(tz=UTC).isoformat(timespec="seconds")
