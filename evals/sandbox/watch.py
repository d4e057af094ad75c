"""What the processes of a sandbox hold together, read from outside."""

import os
from collections.abc import Iterator
from pathlib import Path

from evals.sandbox.command import FOLDER


def memory_of_tree(pid: int) -> int:
    """Return the anonymous and shared memory in bytes of a process and all that descend from it.

    Pages that a fork shares with its parent count for both: more than is used, never less.
    """
    total = 0
    for member in _tree(pid):
        for line in _read(f"/proc/{member}/status").splitlines():
            if line.startswith(("RssAnon:", "RssShmem:")):
                total += int(line.split()[1]) * 1024
    return total


def num_files_in_folder(pid: int) -> int:
    """Return how many files the working folder of a sandbox's first process holds; 0 where that cannot be read."""
    try:
        status = os.statvfs(f"/proc/{pid}/root{FOLDER}")
    except OSError:
        return 0
    return status.f_files - status.f_ffree


def _tree(pid: int) -> Iterator[int]:
    waiting = [pid]
    while waiting:
        member = waiting.pop()
        yield member
        try:
            threads = os.listdir(f"/proc/{member}/task")
        except OSError:
            continue
        for thread in threads:
            waiting += [int(child) for child in _read(f"/proc/{member}/task/{thread}/children").split()]


def _read(path: str) -> str:
    # Processes come and go between the listing and the reading.
    try:
        return Path(path).read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
