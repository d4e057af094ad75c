"""The folder of traces: what is on file, appending to it, and whether it is complete.

Every process appends to a file of its own and holds a lock on it while it runs; it reads those of the others at its
start. A last line without its end was cut by a kill: it does not count, and is cut off where nobody writes any more.
"""

import fcntl
import json
import re
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from megatron_sft import files
from megatron_sft.errors import ConfigError, DataError, EnvironmentProblem
from megatron_sft.metrics import JsonlWriter, drop_partial_line
from megatron_sft.traces.queries import Query

FORMAT = "megatron_sft traces 1"
_NAME = re.compile(r"traces-(\d{4})-of-(\d{4})\.jsonl")


@dataclass
class OnFile:
    """What the rows of a folder amount to."""

    samples: dict[str, int] = field(default_factory=dict)
    """By query id: bit i is set where sample i is there."""
    num_rows: Counter[str] = field(default_factory=Counter)
    """By file name."""
    num_tokens: int = 0
    finish_reasons: Counter[str] = field(default_factory=Counter)
    engines: set[str] = field(default_factory=set)
    """As JSON text."""

    def has(self, query_id: str, sample: int) -> bool:
        """Say whether a sample is there."""
        return bool(self.samples.get(query_id, 0) >> sample & 1)

    def missing(self, query_id: str, num_samples: int) -> list[int]:
        """Return the numbers of the samples of a query that are not there."""
        return [sample for sample in range(num_samples) if not self.has(query_id, sample)]

    def add(self, row: Mapping[str, Any], file: str) -> None:
        """Count a row."""
        self.samples[row["query_id"]] = self.samples.get(row["query_id"], 0) | 1 << row["sample"]
        self.num_rows[file] += 1
        self.num_tokens += row["num_tokens"]
        self.finish_reasons[row["finish_reason"]] += 1
        self.engines.add(json.dumps(row["engine"], sort_keys=True))


class TraceFolder:
    """One process's view of the folder; `append` and `fail` may be called from several threads.

    Raises:
        ConfigError: when the folder was made with other settings, or another process writes what this one would.
        DataError: when it holds rows of other queries, or lines that this program did not write.
    """

    def __init__(
        self,
        path: Path,
        settings: Mapping[str, Any],
        queries: Sequence[Query],
        num_samples: int,
        rank: int = 0,
        size: int = 1,
    ) -> None:
        self.path = path
        self._queries = {query.id: query for query in queries}
        self._num_samples = num_samples
        self._size = size
        self._lock = threading.Lock()
        path.mkdir(parents=True, exist_ok=True)
        own = path / f"traces-{rank:04d}-of-{size:04d}.jsonl"
        with _one_at_a_time(path):
            check_settings(path / "config.json", settings)
            self._held = own.open("ab")
            if not _locked(self._held):
                raise ConfigError(f"{own}: another process writes this file: wait for it, or end it")
            self._others_write = self._take_over(own)
        self._file = own.name
        self.on_file = self.read()
        self._writer = JsonlWriter(own)
        self._failures_path = path / own.name.replace("traces", "failures")
        # What failed is tried again.
        self._failures_path.unlink(missing_ok=True)
        self._failures: JsonlWriter | None = None

    def read(self) -> OnFile:
        """Read and check all rows that are on file now."""
        found = OnFile()
        for file in self._files():
            for where, row in _rows(file):
                self._check(where, row)
                if found.has(row["query_id"], row["sample"]):
                    sample = f"sample {row['sample']} of {row['query_id']!r}"
                    raise DataError(f"{where}: {sample} is there for the second time: remove one of both")
                found.add(row, file.name)
        return found

    def append(self, row: Mapping[str, Any]) -> None:
        """File a row: once this returns, it outlives this process."""
        with self._lock:
            _write(self._writer, row, self.path)
            self.on_file.add(row, self._file)

    def fail(self, failure: Mapping[str, Any]) -> None:
        """Report what could not be had."""
        with self._lock:
            if self._failures is None:
                self._failures = JsonlWriter(self._failures_path)
            _write(self._failures, failure, self.path)

    def close(self) -> None:
        """Flush everything to disk and let others write."""
        self._writer.close()
        if self._failures is not None:
            self._failures.close()
        self._held.close()

    def finish(self) -> bool:
        """Write manifest.json and return True if nothing is missing now; else remove one from an earlier run."""
        with _one_at_a_time(self.path):
            found = self.read() if self._others_write or self._size > 1 else self.on_file
            wanted = (1 << self._num_samples) - 1
            complete = all(found.samples.get(query, 0) == wanted for query in self._queries)
            manifest = self.path / "manifest.json"
            if complete:
                files.write_json(manifest, self._manifest(found))
            else:
                manifest.unlink(missing_ok=True)
            return complete

    def _manifest(self, found: OnFile) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "num_queries": len(self._queries),
            "num_samples_per_query": self._num_samples,
            "num_rows": found.num_rows.total(),
            "num_tokens": found.num_tokens,
            "finish_reasons": dict(found.finish_reasons),
            "engines": [json.loads(engine) for engine in sorted(found.engines)],
            "files": dict(found.num_rows),
        }

    def _files(self) -> list[Path]:
        return sorted(file for file in self.path.iterdir() if _NAME.fullmatch(file.name))

    def _take_over(self, own: Path) -> bool:
        """Tidy the files that nobody writes; say whether there are some that others write."""
        others_write = False
        for file in self._files():
            match = _NAME.fullmatch(file.name)
            if file == own or match is None:
                continue
            with file.open("rb+") as held:
                if _locked(held):
                    drop_partial_line(file)
                    if int(match[2]) != self._size:
                        # Its queries are dealt out anew, and with them what failed.
                        (self.path / file.name.replace("traces", "failures")).unlink(missing_ok=True)
                elif int(match[2]) != self._size:
                    raise ConfigError(
                        f"{file}: is being written by a run with --data-parallel-size {int(match[2])}, this one has "
                        f"{self._size}: both would answer the same queries"
                    )
                else:
                    others_write = True
        return others_write

    def _check(self, where: str, row: dict[str, Any]) -> None:
        query = self._queries.get(row["query_id"])
        if query is None:
            raise DataError(
                f"{where}: the query {row['query_id']!r} is not in the input: give all inputs, or another --output"
            )
        if row["query_sha256"] != query.sha256:
            raise DataError(
                f"{where}: the query {query.id!r} had another prompt or other columns than in {query.where} now: "
                "restore it, or use another --output"
            )
        if not 0 <= row["sample"] < self._num_samples:
            raise DataError(
                f"{where}: sample {row['sample']} is beyond --num-samples {self._num_samples}: keep the number, or use "
                "another --output"
            )


def check_settings(path: Path, settings: Mapping[str, Any]) -> None:
    """Write `settings` to a new file, or compare them with those on file.

    Raises:
        ConfigError: when they differ; the message names each one that does.
    """
    # As they will be read: tuples become lists.
    wanted = json.loads(json.dumps({"format": FORMAT, **settings}))
    if not path.exists():
        files.write_json(path, wanted)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error}): restore it, or use another --output") from error
    differences = [
        f"{name}: {found.get(name)!r} there, {wanted.get(name)!r} now"
        for name in sorted(wanted.keys() | found.keys())
        if found.get(name) != wanted.get(name)
    ]
    if differences:
        raise ConfigError(
            f"{path}: the traces there were made with other settings: use the same, or another --output\n  "
            + "\n  ".join(differences)
        )


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Keep other processes from the files that all of them write."""
    with (folder / ".lock").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _locked(file: IO[bytes]) -> bool:
    """Take the lock of an open file, if nobody has it; it is given back with the file, also by a kill."""
    with suppress(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def _rows(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.endswith(b"\n"):
                return
            where = f"{file}:{number}"
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise DataError(f"{where}: not JSON ({error}): damaged? Remove the line, to have it again") from error
            names = {"query_id", "sample", "num_tokens", "finish_reason", "engine", "query_sha256"}
            if not isinstance(row, dict) or not names <= row.keys():
                raise DataError(f"{where}: not written by this program: move the file away")
            yield where, row


def _write(writer: JsonlWriter, row: Mapping[str, Any], folder: Path) -> None:
    try:
        writer.write(row)
    except OSError as error:
        raise EnvironmentProblem(
            f"{folder}: cannot be written: {error}: mend that and run the same command again"
        ) from error
