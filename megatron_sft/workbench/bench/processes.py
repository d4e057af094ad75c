"""Runs a program in a fresh process and measures it with all its descendants."""

import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from megatron_sft.errors import EnvironmentProblem

_SAMPLING_SECONDS = 0.02


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What one run took."""

    wall: float
    """Seconds from start to end."""
    cpu: float
    """User and system seconds of the process and of every descendant that it waited for."""
    peak_bytes: int
    """Most resident memory seen: the sum over the process tree, sampled 50 times a second (shared pages count for each
    process), or the largest high-water mark of one process where that is more."""
    output: str = field(repr=False)
    """Its standard output."""


def measure(command: Sequence[str], *, cores: int, environment: Mapping[str, str] | None = None) -> Usage:
    """Run `command` on the last `cores` cores of those allowed, and measure it.

    Libraries that ask how many threads to start see these cores only, so that one core means one core for all.

    Raises:
        EnvironmentProblem: when the command fails; the message ends with what it wrote to stderr.
    """
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        started = time.perf_counter()
        process = _start_pinned(command, cores, output.fileno(), errors.fileno(), environment)
        sampler = _MemorySampler(process.pid)
        sampler.start()
        # The children of a child count as soon as it has waited for them, as a process pool does when it closes.
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        sampler.stop()
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        errors.seek(0)
        if process.returncode != 0:
            raise EnvironmentProblem(
                f"{' '.join(command)}: ended with status {process.returncode}: {errors.read()[-2000:]}"
            )
        return Usage(
            wall=wall, cpu=usage.ru_utime + usage.ru_stime, peak_bytes=sampler.peak_bytes, output=output.read()
        )


def pin(cores: int) -> set[int]:
    """Bind this thread, and what it starts from now on, to the last `cores` allowed cores; returns the ones before."""
    allowed = os.sched_getaffinity(0)
    if cores > len(allowed):
        raise EnvironmentProblem(
            f"{cores} cores are needed, but only {len(allowed)} are allowed; ask for fewer workers"
        )
    os.sched_setaffinity(0, sorted(allowed)[-cores:])
    return allowed


def _start_pinned(
    command: Sequence[str], cores: int, output: int, errors: int, environment: Mapping[str, str] | None
) -> subprocess.Popen[bytes]:
    allowed = pin(cores)
    try:
        return subprocess.Popen(
            command, stdout=output, stderr=errors, stdin=subprocess.DEVNULL, env=dict(environment or os.environ)
        )
    finally:
        os.sched_setaffinity(0, allowed)


class _MemorySampler(threading.Thread):
    """Adds up the resident memory of a process tree until it is stopped."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.peak_bytes = 0
        self._pid = pid
        self._stopped = threading.Event()

    def run(self) -> None:
        """Sample until stopped."""
        while not self._stopped.wait(_SAMPLING_SECONDS):
            total = 0
            for pid in _tree(self._pid):
                resident, high_water = _memory(pid)
                total += resident
                self.peak_bytes = max(self.peak_bytes, high_water)
            self.peak_bytes = max(self.peak_bytes, total)

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()
        self.join()


def _tree(pid: int) -> list[int]:
    """`pid` and its descendants; processes may end meanwhile, and are left out then."""
    found, waiting = [], [pid]
    while waiting:
        current = waiting.pop()
        found.append(current)
        for children in Path(f"/proc/{current}/task").glob("*/children"):
            try:
                waiting += map(int, children.read_text().split())
            except OSError:
                continue
    return found


def _memory(pid: int) -> tuple[int, int]:
    """Resident bytes of a process now, and the most it had; zeros when it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0, 0
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return tuple(int(fields.get(name, "0 kB").split()[0]) * 1024 for name in ("VmRSS", "VmHWM"))  # type: ignore[return-value]
