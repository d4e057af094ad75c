"""Runs the project's programs as processes of their own, with their output in a log."""

import ctypes
import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from megatron_sft.data.build_shards import FilterConfig
from megatron_sft.errors import UserError

PACKAGE_ROOT = Path(__file__).resolve().parents[2]
_HEARTBEAT_S = 15.0
_TAIL_LINES = 20
_PR_SET_PDEATHSIG = 1


def run_module(module: str, words: Sequence[str], log: Path) -> None:
    """Run `python -m module words`; now and then show the log's last line.

    Raises:
        UserError: when it fails, with the end of the log.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    paths = [str(PACKAGE_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONUNBUFFERED": "1", "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-m", module, *words]
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, preexec_fn=_dies_with()
        )
        try:
            status = _wait(process, log)
        except BaseException:
            process.terminate()
            process.wait()
            raise
    if status != 0:
        tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-_TAIL_LINES:])
        raise UserError(f"exit status {status} from: {module} {' '.join(words)}\n{tail}\n(whole output: {log})")


def _wait(process: subprocess.Popen[bytes], log: Path) -> int:
    shown = ""
    while True:
        try:
            return process.wait(timeout=_HEARTBEAT_S)
        except subprocess.TimeoutExpired:
            line = _last_line(log)
            if line and line != shown:
                shown = line
                print(f"  ... {line[:150]}", flush=True)


def _dies_with() -> Callable[[], None]:
    """Return what makes a new process end with this one, even if this one is killed: it holds the folder's lock."""
    library, parent = ctypes.CDLL(None), os.getpid()

    def ask() -> None:
        library.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGTERM)

    return ask


def _last_line(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 4096))
        lines = file.read().decode("utf-8", errors="replace").replace("\r", "\n").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


NO_FILTERS = FilterConfig(think="off", empty_answer=False, max_loop_tokens=None, max_loop_share=None,
                          max_undecodable_share=None)  # fmt: skip


def filter_words(filters: FilterConfig) -> list[str]:
    """Return filters as words of `build_shards`'s command line; those that are as by default are left out."""
    words: list[str] = []
    for item in dataclasses.fields(FilterConfig):
        value = getattr(filters, item.name)
        option = "--" + item.name.replace("_", "-")
        if value == item.default:
            continue
        if isinstance(value, bool):
            words.append(option if value else option.replace("--", "--no-", 1))
        elif isinstance(value, tuple):
            words += [option, *value]
        else:
            words += [option, str(value)]
    return words


def column_words(columns: dict[str, str]) -> list[str]:
    """Return the columns that `build_shards` reads as words of its command line."""
    known = ("message", "prompt", "response", "answer", "id", "query_id")
    entries = [f"{name}={column}" for name, column in columns.items() if name in known]
    return ["--columns", *entries] if entries else []


def manifest_counts(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return what `dataset.json` says of a shard folder."""
    counts = manifest["counts"]
    return {
        "rows_read": counts["rows_read"],
        "rows_kept": counts["rows_kept"],
        "rejected_by_reason": counts["rejected_by_reason"],
        "tokens": manifest["tokens"],
        "trained_tokens": manifest["trained_tokens"],
        "verification": manifest["verification"],
        "notices": manifest["notices"],
        "fingerprint": manifest["fingerprint"],
    }
