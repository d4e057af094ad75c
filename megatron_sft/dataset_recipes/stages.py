"""Runs the stages of a build, each only when its result is not there yet.

A stage's mark, `stages/NAME.json`, holds what decided over its result: its own parts (options, fingerprints of files)
and the keys of the stages before it. Equal marks mean equal results.
"""

import contextlib
import fcntl
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from megatron_sft.errors import ConfigError, UserError
from megatron_sft.files import write_json

_CHANGES_SHOWN = 6

Decision = Literal["reuse", "go on", "build", "build again", "add to", "changed"]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One step from files to files."""

    name: str
    title: str
    """What it does, in a few words."""
    parts: dict[str, Any]
    """What decides over its result, but for the stages before it: names and values that JSON can hold."""
    after: tuple[str, ...]
    """The stages whose results it reads."""
    outputs: tuple[Path, ...]
    """Files and folders that it writes, removed before it is built again."""
    result: tuple[Path, ...]
    """Files that are there when it is done; their sizes are compared."""
    action: Callable[[], dict[str, Any]]
    """Does it; returns counts for people and `dataset.json`."""
    grows: str | None = None
    """The part that may become larger with what is there kept; what is there is kept also when a stage before it is
    another one."""
    cheap: bool = False
    """Whether it is built again without being asked."""
    keeps_partial: bool = False
    """Whether what an interrupted run left is worth keeping."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What becomes of a stage."""

    stage: Stage
    key: str
    decision: Decision
    why: str = ""
    mark: dict[str, Any] = field(default_factory=dict)


class StageRunner:
    """Judges and runs the stages of one folder."""

    def __init__(self, folder: Path) -> None:
        """Take the folder; nothing is read yet."""
        self._marks = folder / "stages"
        self._folder = folder

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep a second build out of the folder.

        Raises:
            ConfigError: when one is at work there.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        self._marks.mkdir(exist_ok=True)
        with (self._folder / "build.lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ConfigError(f"{self._folder}: another build_dataset is at work there; wait for it") from error
            yield

    def judge(self, stages: list[Stage]) -> list[Verdict]:
        """Say of each stage what would become of it."""
        verdicts: list[Verdict] = []
        keys: dict[str, str] = {}
        for stage in stages:
            content = {"parts": _as_json(stage.parts), "after": [keys[name] for name in stage.after]}
            keys[stage.name] = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
            verdicts.append(self._verdict(stage, keys[stage.name]))
        return verdicts

    def _verdict(self, stage: Stage, key: str) -> Verdict:
        mark = self._read(stage.name)
        if not mark:
            return Verdict(stage=stage, key=key, decision="build")
        if mark.get("key") == key:
            if not mark.get("done"):
                return Verdict(stage=stage, key=key, decision="go on", mark=mark)
            gone = [str(path) for path in stage.result if _size(path) != mark["sizes"].get(path.name)]
            if gone:
                why = f"{gone[0]} is gone or has another size"
                return Verdict(stage=stage, key=key, decision="build again", why=why)
            return Verdict(stage=stage, key=key, decision="reuse", mark=mark)
        before, parts = _flat(mark.get("parts", {})), _flat(_as_json(stage.parts))
        names = [*parts, *(name for name in before if name not in parts)]
        changes = {name: (before.get(name), parts.get(name)) for name in names if before.get(name) != parts.get(name)}
        shown = [f"{name}: {_shown(old)} became {_shown(new)}" for name, (old, new) in changes.items()]
        why = "; ".join(shown[:_CHANGES_SHOWN]) + (" ..." if len(shown) > _CHANGES_SHOWN else "")
        if not changes:
            # What grows is kept: its program knows what still fits, and refuses the rest by name.
            decision: Decision = "add to" if stage.grows is not None else "build again"
            return Verdict(stage=stage, key=key, decision=decision, why="a stage before it is another one")
        if stage.cheap or not (mark.get("done") or stage.keeps_partial):
            return Verdict(stage=stage, key=key, decision="build again", why=why)
        if stage.grows is not None and list(changes) == [stage.grows] and changes[stage.grows][1] > before[stage.grows]:
            return Verdict(stage=stage, key=key, decision="add to", why=why)
        return Verdict(stage=stage, key=key, decision="changed", why=why)

    def run(self, verdicts: list[Verdict], *, overwrite: bool) -> dict[str, dict[str, Any]]:
        """Run what is not there; return the counts of all stages.

        Raises:
            ConfigError: when a stage was built from something else, and `overwrite` does not allow to replace it.
            UserError: when a stage fails.
        """
        changed = [verdict for verdict in verdicts if verdict.decision == "changed"]
        if changed and not overwrite:
            lines = "\n".join(f"  {verdict.stage.name}: {verdict.why}" for verdict in changed)
            raise ConfigError(
                f"{self._folder} holds results of something else; changed are:\n{lines}\n"
                "take another --output, or give --overwrite to build these stages and what follows from them again"
            )
        counts = {}
        for number, verdict in enumerate(verdicts, start=1):
            stage = verdict.stage
            label = f"[{number}/{len(verdicts)}] {stage.name}: {stage.title}"
            if verdict.decision == "reuse":
                counts[stage.name] = verdict.mark["counts"]
                took = f" (took {verdict.mark['seconds']} s)"
                print(f"{label}: reused{took}{_shown_counts(counts[stage.name])}", flush=True)
                continue
            print(f"{label}: {verdict.decision}{f' ({verdict.why})' if verdict.why else ''}", flush=True)
            if verdict.decision in ("changed", "build again"):
                remove(stage.outputs)
            counts[stage.name] = self._run(verdict)
        return counts

    def _run(self, verdict: Verdict) -> dict[str, Any]:
        stage, started = verdict.stage, time.monotonic()
        mark: dict[str, Any] = {"key": verdict.key, "parts": stage.parts, "done": False}
        write_json(self._marks / f"{stage.name}.json", mark)
        counts = stage.action()
        missing = [path for path in stage.result if not path.exists()]
        if missing:
            raise UserError(f"{stage.name}: ended without an error but without {missing[0]}")
        seconds = time.monotonic() - started
        sizes = {path.name: _size(path) for path in stage.result}
        mark |= {"done": True, "counts": counts, "sizes": sizes, "seconds": round(seconds, 1)}
        write_json(self._marks / f"{stage.name}.json", mark)
        print(f"  done in {seconds:.1f} s{_shown_counts(counts)}", flush=True)
        return counts

    def _read(self, name: str) -> dict[str, Any]:
        try:
            mark = json.loads((self._marks / f"{name}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return mark if isinstance(mark, dict) else {}


def remove(paths: tuple[Path, ...]) -> None:
    """Delete files and folders, if they are there."""
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _flat(value: dict[str, Any], above: str = "") -> dict[str, Any]:
    """Return the leaves of nested mappings by their dotted names."""
    leaves: dict[str, Any] = {}
    for name, part in value.items():
        if isinstance(part, dict) and part:
            leaves |= _flat(part, f"{above}{name}.")
        else:
            leaves[above + name] = part
    return leaves


def _as_json(parts: dict[str, Any]) -> dict[str, Any]:
    """Return parts as a mark gives them back, tuples as lists."""
    content: dict[str, Any] = json.loads(json.dumps(parts))
    return content


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return text if len(text) <= 90 else f"{text[:60]} ... {text[-25:]}"


def _shown_counts(counts: dict[str, Any]) -> str:
    plain = [f"{value} {name.replace('_', ' ')}" for name, value in counts.items() if isinstance(value, int) and value]
    return ": " + ", ".join(plain) if plain else ""
