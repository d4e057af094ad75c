"""Where a recipe's sources lie: files that the command names, or the hub's cache; with the fingerprint of each file."""

import fnmatch
import glob
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from megatron_sft.dataset_recipes.recipe import SourceSpec
from megatron_sft.dataset_recipes.row_files import ENDINGS
from megatron_sft.errors import ConfigError, DataError, EnvironmentProblem
from megatron_sft.files import write_json

FROM_HUB = "hub"


@dataclass(frozen=True, kw_only=True)
class Source:
    """Files of one source."""

    name: str
    files: list[Path]
    columns: dict[str, str]
    """Field: column."""
    record: dict[str, Any]
    """For `dataset.json`: hub id, revision, licence, and name, size and sha256 of each file."""

    @property
    def fingerprint(self) -> str:
        """What decides over the content: hash and size of each file in order, and the columns."""
        content = [(file["sha256"], file["size"]) for file in self.record["files"]]
        return hashlib.sha256(json.dumps([content, self.columns], sort_keys=True).encode()).hexdigest()


class Hashes:
    """sha256 of files, remembered in a file by path, size and time of change."""

    def __init__(self, path: Path) -> None:
        """Read what is remembered."""
        self._path = path
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            known = {}
        self._known: dict[str, list[Any]] = known if isinstance(known, dict) else {}

    def sha256(self, path: Path) -> str:
        """Return a file's hash."""
        status, key = path.stat(), str(path.resolve())
        stamp = [status.st_size, status.st_mtime_ns]
        entry = self._known.get(key)
        if entry is None or entry[:2] != stamp:
            with path.open("rb") as file:
                entry = [*stamp, hashlib.file_digest(file, "sha256").hexdigest()]
            self._known[key] = entry
            if self._path.parent.is_dir():
                write_json(self._path, self._known)
        return str(entry[2])


def open_source(
    name: str,
    spec: SourceSpec,
    given: str | None,
    columns: dict[str, str],
    hashes: Hashes,
    *,
    files: list[Path] | None = None,
) -> Source:
    """Find the files of a source and fingerprint them.

    Args:
        name: of the source, for messages.
        spec: what the recipe says.
        given: the PATH of `--source NAME=PATH`, if there is one.
        columns: field: column, those of the command; they win over the recipe's.
        hashes: of files.
        files: these ones, already found.

    Raises:
        ConfigError: when there are no such files.
    """
    revision = None
    if files is not None:
        pass
    elif given is None or given == FROM_HUB:
        files, revision = _hub_files(name, spec)
    else:
        files = _given_files(name, given, spec)
    folder = os.path.commonpath([file.parent for file in files])
    record = {
        "hub": spec.hub if revision is not None else None,
        "revision": revision,
        "described_as": spec.hub,
        "licence": spec.licence,
        "files": [
            {
                "name": os.path.relpath(file, folder),
                "size": file.stat().st_size,
                "sha256": hashes.sha256(file),
            }
            for file in files
        ],
    }
    return Source(name=name, files=files, columns=spec.columns | columns, record=record)


def expand(option: str, patterns: tuple[str, ...] | list[str]) -> list[Path]:
    """Return the files of patterns, those of each sorted by name.

    Raises:
        ConfigError: for a pattern that matches nothing.
    """
    files: list[Path] = []
    for pattern in patterns:
        found = [pattern] if os.path.isfile(pattern) else sorted(glob.glob(pattern, recursive=True))
        if not found:
            raise ConfigError(f"{option} {pattern!r} matches no file; check the path (now in {os.getcwd()})")
        files += map(Path, found)
    return files


def _given_files(name: str, given: str, spec: SourceSpec) -> list[Path]:
    folder = Path(given)
    if not folder.is_dir():
        files = expand(f"--source {name}=", [given])
    elif (folder / "dataset.json").is_file():
        # A set that this program built.
        files = [folder / "rows.parquet"]
    else:
        files = _matching(folder, spec.files)
        files = files or sorted(file for file in folder.iterdir() if file.name.endswith(ENDINGS))
        if not files:
            raise ConfigError(
                f"--source {name}={given}: the folder has no files {spec.files}, and none that ends in "
                f"{', '.join(ENDINGS)}; name the files with a quoted pattern"
            )
    wrong = [file for file in files if not file.name.endswith(ENDINGS)]
    if wrong:
        raise DataError(f"--source {name}: {wrong[0]}: expected a file named {', '.join(ENDINGS)}")
    return files


def _matching(folder: Path, pattern: str) -> list[Path]:
    """Return the files below a folder whose path in it fits; as on the hub, a star stands for slashes too."""
    files = (file for file in folder.rglob("*") if file.is_file())
    return sorted(file for file in files if fnmatch.fnmatch(file.relative_to(folder).as_posix(), pattern))


def _hub_files(name: str, spec: SourceSpec) -> tuple[list[Path], str]:
    """Return files and revision from the hub's cache, or from the hub itself unless HF_HUB_OFFLINE is set."""
    remedy = f"give --source {name}=PATH (a file, a folder or a quoted pattern)"
    if spec.hub is None:
        raise ConfigError(f"the recipe does not say where {name} lies: {remedy}")
    what = f"{spec.hub} ({spec.files})"
    try:
        import huggingface_hub
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError as error:
        raise EnvironmentProblem(
            f"{name}: to look for {what}, the package huggingface_hub is needed: install it, or {remedy}"
        ) from error
    offline = os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on")
    why = "HF_HUB_OFFLINE is set"
    for local_only in (True,) if offline else (True, False):
        try:
            folder = huggingface_hub.snapshot_download(
                repo_id=spec.hub,
                repo_type="dataset",
                revision=spec.revision,
                allow_patterns=[spec.files],
                local_files_only=local_only,
            )
        except (LocalEntryNotFoundError, HfHubHTTPError, OSError, ValueError) as error:
            if not local_only:
                why = f"the hub does not give it: {str(error).splitlines()[0][:200]}"
            continue
        files = _matching(Path(folder), spec.files)
        if files:
            return files, Path(folder).name
    raise ConfigError(f"{name}: {what} is not in the hub's cache, and {why}: {remedy}")
