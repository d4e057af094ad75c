"""Append-only JSON Lines records: one object a line, each written whole, so a killed run leaves a readable file."""

import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from megatron_sft.errors import DataError


class JsonlWriter:
    """Appends one JSON object per line; a line is one `write` to a file opened in append mode."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        drop_partial_line(path)
        self._file = path.open("a", encoding="utf-8")

    def write(self, record: Mapping[str, Any]) -> None:
        """Append `record`; NaN and infinities are refused, as JSON has no spelling for them."""
        self._file.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Flush to disk and close."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSON Lines file.

    Raises:
        DataError: for a line that is not a JSON object, naming file, line and the start of its text.
    """
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except json.JSONDecodeError as error:
                raise DataError(f"{path}:{number}: not JSON ({error}): {line[:80]!r}") from error
            if not isinstance(record, dict):
                raise DataError(f"{path}:{number}: expected an object, found {type(record).__name__}: {line[:80]!r}")
            yield record


def drop_partial_line(path: Path) -> None:
    """Cut a last line without a newline, which only a killed writer leaves behind."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        size = keep = file.seek(0, os.SEEK_END)
        while keep:
            start = max(0, keep - (1 << 16))
            file.seek(start)
            newline = file.read(keep - start).rfind(b"\n")
            keep = start + newline + 1
            if newline >= 0:
                break
        if keep != size:
            file.truncate(keep)


def finite_or_none(value: float) -> float | None:
    """Return `value`, or None where JSON could not hold it."""
    return value if math.isfinite(value) else None
