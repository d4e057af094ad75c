"""Runs programs as processes of their own, with their output in a log; they end with the process that started them."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from megatron_sft.errors import UserError
from megatron_sft.stages.graph import printable

ROOT = Path(__file__).resolve().parents[2]
"""The repository, or the folder that the package is installed in."""
HEARTBEAT_S = 15.0
TAIL_LINES = 30
GRACE_S = 120.0
"""Time that a program has after SIGTERM, to write a checkpoint say, before it is killed."""
_PR_SET_PDEATHSIG = 1


def run_module(module: str, words: Sequence[str], log: Path) -> None:
    """Run `python -m module words` in the working directory; raises what `run_program` raises."""
    run_program([sys.executable, "-m", module, *words], log)


def run_program(
    words: Sequence[str],
    log: Path,
    *,
    folder: Path | None = None,
    is_continued: bool = False,
    held: Sequence[int] = (),
    on_heartbeat: Callable[[], None] | None = None,
) -> None:
    """Run one program; now and then show its log's last line.

    Args:
        words: the program and its options.
        log: gets what it prints.
        folder: to run it in; by default the working directory.
        is_continued: write behind what the log holds.
        held: file descriptors that it keeps open, so that a lock on them is held until it has ended.
        on_heartbeat: called every HEARTBEAT_S seconds.

    Raises:
        UserError: when it fails, with the end of the log.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab" if is_continued else "wb") as output:
        try:
            process = subprocess.Popen(
                words,
                cwd=folder,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=held,
                preexec_fn=_dies_with(),
            )
        except OSError as error:
            raise UserError(f"cannot run {words[0]}: {error}") from error
        try:
            status = _wait(process, log, on_heartbeat)
        except BaseException:
            _end(process)
            raise
    if status != 0:
        raise UserError(f"exit status {status} from: {printable(words)}\n{tail(log)}\n(whole output: {log})")


def environment() -> dict[str, str]:
    """Return variables with which programs find this interpreter, its programs and the project."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    found = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)),
        "PYTHONUNBUFFERED": "1",
    }
    if sys.prefix != sys.base_prefix:
        # tools/python looks here first.
        found["VIRTUAL_ENV"] = sys.prefix
    return found


def tail(log: Path) -> str:
    """Return the last lines of a log."""
    return "\n".join(_end_of(log, 1 << 16).splitlines()[-TAIL_LINES:])


def last_line(log: Path) -> str:
    """Return the last line with text in a log, from its last few thousand bytes."""
    return next((line.strip() for line in reversed(_end_of(log, 4096).splitlines()) if line.strip()), "")


def _end_of(log: Path, num_bytes: int) -> str:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - num_bytes))
        # Progress bars end their lines with a carriage return.
        return file.read().decode("utf-8", errors="replace").replace("\r", "\n")


def _wait(process: subprocess.Popen[bytes], log: Path, on_heartbeat: Callable[[], None] | None) -> int:
    shown = ""
    while True:
        try:
            return process.wait(timeout=HEARTBEAT_S)
        except subprocess.TimeoutExpired:
            if on_heartbeat is not None:
                on_heartbeat()
            line = last_line(log)
            if line and line != shown:
                shown = line
                print(f"  ... {line[:150]}", flush=True)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _dies_with() -> Callable[[], None]:
    """Return what makes a new process end with this one, even if this one is killed: it works in the same folder."""
    library, parent = ctypes.CDLL(None), os.getpid()

    def ask() -> None:
        library.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGTERM)

    return ask
