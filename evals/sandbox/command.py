"""The command line of bubblewrap: what a sandboxed program sees, and the limits it starts with."""

import os
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evals.sandbox.limits import MIB, Limits

FOLDER = "/box"
"""The working folder inside, the only place of any size that can be written."""
UID_INSIDE = 1000

_ETC = ("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives")
_SHARED_MEMORY_BYTES = 16 * MIB
# A shell stays process 1, so that the namespace ends with the command and its orphans die. The limits are for the shell
# as well: the program, being the same user, can write to its memory and so become it.
_INIT = '"$@"; exit $?'
_ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": FOLDER,
    "TMPDIR": FOLDER,
    "LANG": "C.UTF-8",
    # Verdicts shall not depend on the order of a set.
    "PYTHONHASHSEED": "0",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONSAFEPATH": "1",
    # Each thread reserves address space that counts, and one thread is what a verdict's time is about.
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "2",
}


@dataclass(frozen=True, kw_only=True)
class Programs:
    """Absolute paths on the host, found once."""

    bwrap: str
    prlimit: str
    python: str
    """The interpreter, at the same path inside."""
    python_folders: tuple[str, ...]
    """What the interpreter needs besides /usr, mounted read-only."""


def bwrap_command(
    programs: Programs, command: Sequence[str], limits: Limits, files: Mapping[str, int], *, status: int, seccomp: int
) -> list[str]:
    """Return the whole command line.

    Args:
        programs: what is called and mounted.
        command: program and arguments to run inside.
        limits: see `Limits`.
        files: names below the working folder -> descriptors to copy their contents from.
        status: descriptor on which bubblewrap reports start and exit.
        seccomp: descriptor with the filter of system calls, -1 for none.
    """
    parts = [programs.bwrap, "--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent", "--as-pid-1"]
    parts += ["--new-session", "--cap-drop", "ALL", "--uid", str(UID_INSIDE), "--gid", str(UID_INSIDE)]
    parts += ["--hostname", "box", "--clearenv", "--json-status-fd", str(status)]
    for name, value in _ENVIRONMENT.items():
        parts += ["--setenv", name, value]
    parts += _system_mounts(programs.python_folders)
    parts += ["--proc", "/proc", "--dev", "/dev"]
    parts += ["--size", str(_SHARED_MEMORY_BYTES), "--tmpfs", "/dev/shm"]
    parts += ["--size", str(limits.folder_bytes), "--tmpfs", FOLDER]
    for name, descriptor in files.items():
        parts += ["--file", str(descriptor), posixpath.join(FOLDER, checked_name(name))]
    # Both are tmpfs without a size, of which a program could otherwise take half the machine's memory.
    parts += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", FOLDER]
    if seccomp >= 0:
        parts += ["--seccomp", str(seccomp)]
    return [*parts, "--", programs.prlimit, *_limit_options(limits), "/bin/sh", "-c", _INIT, "sh", *command]


def checked_name(name: str) -> str:
    """Return a file name below the working folder.

    Raises:
        ValueError: for names that lead elsewhere.
    """
    if not name or name.startswith(("/", "..")) or "\0" in name or posixpath.normpath(name) != name:
        raise ValueError(f"{name!r} is not a plain name below the sandbox's working folder")
    return name


def _system_mounts(python_folders: Sequence[str]) -> list[str]:
    parts = ["--ro-bind", "/usr", "/usr"]
    for name in ("bin", "sbin", "lib", "lib32", "lib64"):
        path = Path("/", name)
        if path.is_symlink():
            parts += ["--symlink", os.readlink(path), str(path)]
        elif path.is_dir():
            parts += ["--ro-bind", str(path), str(path)]
    for name in _ETC:
        if Path("/etc", name).exists():
            parts += ["--ro-bind", f"/etc/{name}", f"/etc/{name}"]
    for folder in python_folders:
        parts += ["--ro-bind", folder, folder]
    return parts


def _limit_options(limits: Limits) -> list[str]:
    return [
        f"--as={limits.memory_bytes}",
        f"--cpu={limits.cpu_s}:{limits.cpu_s + 1}",
        f"--fsize={limits.folder_bytes}",
        f"--nproc={limits.num_processes}",
        f"--nofile={limits.num_open_files}",
        "--core=0",
        "--memlock=0",
        "--",
    ]
