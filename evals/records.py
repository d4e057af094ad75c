"""Append-only JSON Lines files whose records are found by key: what is there is never computed again."""

from pathlib import Path
from typing import Any

from megatron_sft.errors import DataError
from megatron_sft.metrics import JsonlWriter, drop_partial_line, read_jsonl


class KeyedRecords:
    """The records of one file, by their field `key`; the last record of a key counts."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._records: dict[str, dict[str, Any]] = {}
        if path.exists():
            drop_partial_line(path)
            for number, record in enumerate(read_jsonl(path), start=1):
                if not isinstance(record.get("key"), str):
                    raise DataError(
                        f"{path}, record {number}: no `key`: not written by this program? Move the file away"
                    )
                self._records[record["key"]] = record
        self._writer: JsonlWriter | None = None

    def __contains__(self, key: str) -> bool:
        """Say whether a record with this key is there."""
        return key in self._records

    def __getitem__(self, key: str) -> dict[str, Any]:
        """Return the record of a key."""
        return self._records[key]

    def append(self, record: dict[str, Any]) -> None:
        """Write a record at the end of the file."""
        if self._writer is None:
            self._writer = JsonlWriter(self.path)
        self._writer.write(record)
        self._records[record["key"]] = record

    def close(self) -> None:
        """Flush to disk; the records can still be read."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
