"""Marks: what a run's folder says of its stages, in `stages/NAME.json`, and what decides over a stage's outputs.

A mark has `key` (sha256 of `parts`), `parts` (commands, settings, hashes of outside inputs, keys of the stages before),
`state`, `why`, `seconds` and `attempts` (over all attempts with this key), `kind`, `title`, `started`, `ended` and
`command` (as typed). Equal keys mean equal outputs.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from megatron_sft.errors import DataError
from megatron_sft.files import write_json
from megatron_sft.stages.graph import Stage

State = Literal["done", "running", "failed", "blocked"]
FOLDER = "stages"
_HASHES = "hashes-of-inputs"


@dataclass(kw_only=True)
class Mark:
    """What is known of one stage."""

    key: str
    parts: dict[str, Any]
    state: State
    """running: also one that was interrupted."""
    why: str = ""
    """Of a failure, of a block, or of an interruption."""
    kind: str = ""
    title: str = ""
    command: list[str] = field(default_factory=list)
    """As one would type it."""
    seconds: float = 0.0
    """Of all attempts."""
    attempts: int = 0
    started: str = ""
    """Time of the last attempt, UTC."""
    ended: str = ""

    @property
    def reason(self) -> str:
        """`why` in one line: of a program that failed, the last one that it printed."""
        lines = [line for line in self.why.splitlines() if line.strip()]
        if len(lines) < 3:
            return lines[0] if lines else ""
        return lines[-2].strip()


class Marks:
    """The marks of one folder."""

    def __init__(self, output: Path) -> None:
        """Take the run's folder; nothing is read yet."""
        self.folder = output / FOLDER
        self._hashes: dict[str, list[Any]] | None = None

    def read(self, name: str) -> Mark | None:
        """Return a stage's mark; None where there is none, or one that cannot be read."""
        try:
            return Mark(**json.loads((self.folder / f"{name}.json").read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def write(self, name: str, mark: Mark) -> None:
        """File a mark, whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / f"{name}.json", asdict(mark), sort_keys=False)

    def remove(self, name: str) -> None:
        """Forget a stage: it is done afresh."""
        (self.folder / f"{name}.json").unlink(missing_ok=True)

    def parts_of(self, stage: Stage, keys_before: Mapping[str, str | None], root: Path) -> dict[str, Any]:
        """Return what decides over a stage's outputs.

        Args:
            stage: the stage.
            keys_before: of the stages that it comes after; None where one is not done and need not be.
            root: relative paths of inputs are meant from there.

        Raises:
            DataError: when an outside input does not exist.
        """
        parts = {
            "commands": stage.commands,
            "settings": dict(stage.settings),
            "inputs": {name: self._hash_of(root / path, stage) for name, path in stage.inputs.items()},
            "after": {name: keys_before[name] for name in stage.after},
        }
        content: dict[str, Any] = json.loads(json.dumps(parts))
        return content

    def _hash_of(self, path: Path, stage: Stage) -> str:
        if not path.exists():
            raise DataError(f"{stage.name} needs {path}, which does not exist")
        if self._hashes is None:
            self._hashes = self._read_hashes()
        digest = hashlib.sha256()
        before = dict(self._hashes)
        for file, name in _files(path):
            digest.update(f"{name}\0{self._hash_of_file(file)}\n".encode())
        if self._hashes != before and self.folder.parent.is_dir():
            self.folder.mkdir(exist_ok=True)
            write_json(self.folder / _HASHES, self._hashes)
        return digest.hexdigest()

    def _hash_of_file(self, file: Path) -> str:
        """Weights have gigabytes: a file is read again only when its size or time has changed."""
        assert self._hashes is not None
        status = file.stat()
        known, facts = self._hashes.get(str(file)), [status.st_size, status.st_mtime_ns]
        if known is not None and known[1:] == facts:
            return str(known[0])
        with file.open("rb") as content:
            found = hashlib.file_digest(content, "sha256").hexdigest()
        self._hashes[str(file)] = [found, *facts]
        return found

    def _read_hashes(self) -> dict[str, list[Any]]:
        try:
            found = json.loads((self.folder / _HASHES).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


def key_of(parts: Mapping[str, Any]) -> str:
    """Return the key of what decides over a stage's outputs."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def changes(before: Mapping[str, Any], parts: Mapping[str, Any]) -> str:
    """Say in a few words what is another than when a stage was done; empty for nothing."""
    found = []
    if before.get("commands") != parts["commands"]:
        old, new = (_words(one.get("commands", [])) for one in (before, parts))
        gone, came = ([word for word in one if word not in other] for one, other in ((old, new), (new, old)))
        found.append(f"command: {_shown(gone) or 'nothing'} became {_shown(came) or 'nothing'}")
    for part, what in (("settings", "setting"), ("inputs", "content of"), ("after", "stage before,")):
        old, new = before.get(part, {}), parts[part]
        names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
        found += [f"{what} {name}" for name in names]
    return "; ".join(found)


def _words(commands: list[list[str]]) -> list[str]:
    return [word for words in commands for word in words]


def _shown(words: list[str]) -> str:
    text = " ".join(words)
    return text if len(text) <= 80 else f"{text[:76]} ..."


def _files(path: Path) -> Iterator[tuple[Path, str]]:
    """Every file with its name below the path, sorted; caches of the hub hold links, which are followed."""
    if path.is_file():
        yield path, ""
        return
    for folder, folders, names in os.walk(path, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith("."):
                yield Path(folder) / name, str((Path(folder) / name).relative_to(path))
