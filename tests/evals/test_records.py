"""Keyed, append-only records."""

from pathlib import Path

import pytest

from evals.records import KeyedRecords
from megatron_sft.errors import DataError


def test_records_survive_and_a_half_written_one_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "records.jsonl"
    records = KeyedRecords(path)
    records.append({"key": "a", "value": 1})
    records.append({"key": "b", "value": 2})
    records.close()
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])

    again = KeyedRecords(path)
    assert "a" in again
    assert "b" not in again
    again.append({"key": "b", "value": 2})
    again.close()
    assert path.read_bytes() == whole


def test_reading_alone_creates_no_file(tmp_path: Path) -> None:
    KeyedRecords(tmp_path / "none.jsonl").close()
    assert not list(tmp_path.iterdir())


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    path.write_text('{"value": 1}\n')
    with pytest.raises(DataError, match="record 1: no `key`"):
        KeyedRecords(path)
