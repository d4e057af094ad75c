"""Files of rows that others made: JSON Lines and Parquet, with line numbers as `build_shards` counts them."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from megatron_sft.backends import require_extra
from megatron_sft.errors import DataError

_JSON_ENDINGS = (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz", ".jsonl.zst", ".ndjson.zst")
ENDINGS = (".parquet", *_JSON_ENDINGS)


def numbered_rows(path: Path) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """Yield line (from 1; in Parquet the row) and row; None where a line is no JSON object.

    Raises:
        DataError: for a file that cannot be read.
    """
    require_extra("data", "pyarrow")
    import pyarrow as pa

    try:
        if path.suffix == ".parquet":
            yield from _parquet_rows(path)
        elif path.name.endswith(_JSON_ENDINGS):
            with pa.input_stream(str(path), compression="detect") as stream:
                yield from _json_rows(stream)
        else:
            raise DataError(f"{path}: expected a file named {', '.join(ENDINGS)}")
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error


def _parquet_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    from pyarrow import parquet

    number = 0
    with parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=256):
            for row in batch.to_pylist():
                number += 1
                yield number, row


def _json_rows(stream: Any) -> Iterator[tuple[int, dict[str, Any] | None]]:
    rest, number = b"", 0
    while block := stream.read(1 << 22):
        *lines, rest = (rest + block).split(b"\n")
        for line in lines:
            number += 1
            if line.strip():
                yield number, _parsed(line)
    if rest.strip():
        yield number + 1, _parsed(rest)


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def check_columns(files: list[Path], columns: dict[str, str], *, source: str) -> None:
    """Check that the first row of each file has the columns.

    Args:
        files: of one source.
        columns: field: column, of those that must be there.
        source: its name, for the message.

    Raises:
        DataError: naming file, column, what there is, and the option.
    """
    for path in files:
        row = next((row for _, row in numbered_rows(path) if row is not None), None)
        if row is None:
            raise DataError(f"{path}: holds no rows")
        for name, column in columns.items():
            if not has_column(row, column):
                raise DataError(
                    f"{path}: no column {column!r} for {name}; there are {', '.join(map(str, row))}; "
                    f"name it with --columns {source}.{name}=COLUMN"
                )


def has_column(row: dict[str, Any], column: str) -> bool:
    """Say whether a row has a column; dots lead into structs."""
    if column in row:
        return True
    first, _, rest = column.partition(".")
    inner = row.get(first)
    return bool(rest) and isinstance(inner, dict) and has_column(inner, rest)


def value_of(row: dict[str, Any], column: str) -> Any:
    """Return a column's value, None where it is absent or NaN; dots lead into structs."""
    if column in row:
        value = row[column]
        return None if isinstance(value, float) and math.isnan(value) else value
    first, _, rest = column.partition(".")
    inner = row.get(first)
    return value_of(inner, rest) if rest and isinstance(inner, dict) else None


def text_of(value: Any, *, role: str) -> str | None:
    """Return a text as it stands; of a conversation, the last turn of `role`; None where there is neither."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        turns = [turn for turn in value if isinstance(turn, dict) and turn.get("role") == role]
        content = turns[-1].get("content") if turns else None
        return content if isinstance(content, str) else None
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def turns_of(value: Any) -> list[dict[str, str]] | None:
    """Return the turns of a `message`, or of one as JSON text, with role and content alone; None if it is none."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    if not isinstance(value, list) or not value:
        return None
    turns = []
    for turn in value:
        if not isinstance(turn, dict):
            return None
        role, content = turn.get("role"), turn.get("content")
        if not isinstance(role, str) or not isinstance(content, str):
            return None
        turns.append({"role": role, "content": content})
    return turns
