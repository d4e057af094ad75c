"""Runs a list of programs one after the other, each only when its work is not done yet.

What is done is kept in a file beside the outputs: a stage that finished with the same command is skipped, one that was
interrupted goes on where its program can (they all resume or start over by themselves), and a stage whose command
changed is done afresh, with everything after it.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from megatron_sft.errors import UserError
from megatron_sft.files import write_json

ROOT = Path(__file__).resolve().parents[2]
HEARTBEAT_S = 15.0
TAIL_LINES = 30


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One program of a chain."""

    name: str
    """Short name, also of its log file."""
    title: str
    """What it does, in a few words."""
    commands: Sequence[Sequence[str]]
    """Programs with their options, run in this order from the repository root."""
    outputs: Sequence[Path]
    """What exists when it is done; removed before the stage is done afresh."""
    prepare: Callable[[], None] | None = None
    """Called before the programs, for what no program makes."""
    settings: str = ""
    """What decides over the outputs without being in the commands; a change does the stage afresh."""


class StageRunner:
    """Runs stages and keeps their record in `folder`/stages.json, their output in `folder`/logs."""

    def __init__(self, folder: Path) -> None:
        """Read the record of an earlier call, if there is one."""
        self._folder = folder
        self._record_path = folder / "stages.json"
        self._records = self._read_records()

    def run(self, stages: Sequence[Stage]) -> None:
        """Run the stages in order.

        Raises:
            UserError: when a program fails, with the end of its output.
        """
        for number, stage in enumerate(stages, start=1):
            commands = [printable(words) for words in stage.commands]
            record = self._records.get(stage.name, {})
            is_same = record.get("commands") == commands and record.get("settings") == stage.settings
            print(f"\n[{number}/{len(stages)}] {stage.name}: {stage.title}", flush=True)
            for line in commands:
                print(f"  $ {line}", flush=True)
            if is_same and record.get("done") and all(path.exists() for path in stage.outputs):
                print(f"  already done, in {record['seconds']:.0f} s", flush=True)
                continue
            self._forget([later.name for later in stages[number:]])
            if not is_same or record.get("done"):
                remove(stage.outputs)
                record = {"commands": commands, "settings": stage.settings, "done": False, "seconds": 0.0}
            self._run_stage(stage, record)

    def seconds(self) -> dict[str, float]:
        """Seconds that each stage took, over all its attempts."""
        return {name: float(record["seconds"]) for name, record in self._records.items()}

    def _run_stage(self, stage: Stage, record: dict[str, Any]) -> None:
        self._write_record(stage.name, record)
        started, before = time.monotonic(), float(record["seconds"])
        log = self._folder / "logs" / f"{stage.name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        if stage.prepare is not None:
            stage.prepare()
        try:
            with log.open("w", encoding="utf-8") as output:
                for words in stage.commands:
                    run_program(words, output.fileno(), log)
        finally:
            self._write_record(stage.name, record | {"seconds": before + time.monotonic() - started})
        missing = [path for path in stage.outputs if not path.exists()]
        if missing:
            raise UserError(f"{stage.name}: ended without an error but without {missing[0]}: see {log}")
        seconds = before + time.monotonic() - started
        self._write_record(stage.name, record | {"done": True, "seconds": seconds})
        print(f"  done in {seconds:.0f} s", flush=True)

    def _forget(self, names: Sequence[str]) -> None:
        """Drop the records of stages that depend on one that runs again."""
        for name in names:
            self._records.pop(name, None)

    def _read_records(self) -> dict[str, dict[str, Any]]:
        try:
            records = json.loads(self._record_path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return records if isinstance(records, dict) else {}

    def _write_record(self, name: str, record: dict[str, Any]) -> None:
        self._records[name] = record
        self._folder.mkdir(parents=True, exist_ok=True)
        write_json(self._record_path, self._records, sort_keys=False)


def run_program(words: Sequence[str], output: int, log: Path) -> None:
    """Run one program with its output in the log; now and then show the log's last line.

    Raises:
        UserError: when it fails, with the end of the log.
    """
    bin_folder = Path(sys.executable).parent
    environment = os.environ | {
        "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
        "PYTHONUNBUFFERED": "1",
        # One thread for each process: the processes already fill the cores.
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
    }
    process = subprocess.Popen(words, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        while True:
            try:
                status = process.wait(timeout=HEARTBEAT_S)
                break
            except subprocess.TimeoutExpired:
                if line := last_line(log):
                    print(f"  ... {line[:150]}", flush=True)
    except BaseException:
        process.terminate()
        process.wait()
        raise
    if status != 0:
        tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL_LINES:])
        raise UserError(f"exit status {status} from: {printable(words)}\n{tail}\n(whole output: {log})")


def last_line(log: Path) -> str:
    """The last line with text in a log, from its last few thousand bytes."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 4096))
        lines = file.read().decode("utf-8", errors="replace").replace("\r", "\n").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def command(template: str, **values: object) -> list[str]:
    """Split a command line at its spaces, then fill in `{names}`; a list fills in one word for each item.

    >>> command("sort --key {key} {files}", key=2, files=["a b", "c"])
    ['sort', '--key', '2', 'a b', 'c']
    """
    words: list[str] = []
    for word in template.split():
        value = values.get(word.strip("{}")) if word.startswith("{") else None
        words += map(str, value) if isinstance(value, list) else [word.format(**values)]
    return words


def printable(words: Sequence[str]) -> str:
    """The command as one would type it in the repository."""
    return shlex.join(words)


def remove(paths: Sequence[Path]) -> None:
    """Delete files and folders, if they are there."""
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
