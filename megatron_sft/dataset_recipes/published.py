"""The schema in which the paper's sets are published, and the file of rows in it."""

import contextlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from megatron_sft.backends import require_extra
from megatron_sft.dataset_recipes.row_files import text_of, turns_of, value_of
from megatron_sft.files import sync_directory

FIELDS = ("data_source", "question", "answer", "message", "response", "response_length", "advantage")
_ROWS_PER_GROUP = 1024


def schema(answer: str) -> Any:
    """Return the Arrow schema; `answer` is `text` or `countdown`."""
    require_extra("data", "pyarrow")
    import pyarrow as pa

    answers = {"text": pa.string(), "countdown": pa.struct([("numbers", pa.list_(pa.int64())), ("target", pa.int64())])}
    turn = pa.struct([("role", pa.string()), ("content", pa.string())])
    types = {"answer": answers[answer], "message": pa.list_(turn), "response_length": pa.int64()}
    types["advantage"] = pa.float64()
    return pa.schema([(name, types.get(name, pa.string())) for name in FIELDS])


def write_rows(path: Path, rows: Iterable[dict[str, Any]], answer: str) -> int:
    """Write rows of the schema through a temporary file; return their number. Equal rows give equal bytes."""
    import pyarrow as pa
    from pyarrow import parquet

    temporary, arrow_schema, num_rows = path.with_name(f".{path.name}.tmp"), schema(answer), 0
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with temporary.open("wb") as file:
            with parquet.ParquetWriter(file, arrow_schema, compression="zstd") as writer:
                for batch in _batches(rows):
                    writer.write_table(pa.Table.from_pylist(batch, arrow_schema))
                    num_rows += len(batch)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_directory(path.parent)
    return num_rows


def _batches(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    batch: list[dict[str, Any]] = []
    for row in rows:
        batch.append(row)
        if len(batch) == _ROWS_PER_GROUP:
            yield batch
            batch = []
    if batch:
        yield batch


def row_of(row: dict[str, Any], columns: dict[str, str], *, answer: str, data_source: str) -> dict[str, Any] | None:
    """Return a row of traces or of a published set in the schema, its length not counted yet.

    Args:
        row: as it was read.
        columns: field: column, where they differ.
        answer: `text` or `countdown`.
        data_source: for rows that name none.

    Returns:
        None where there is no prompt or no response.
    """

    def value(name: str) -> Any:
        return value_of(row, columns.get(name, name))

    prompt = value("prompt")
    turns = turns_of(value("message"))
    if turns is None and isinstance(prompt, str):
        turns = [{"role": "user", "content": prompt}]
    response = text_of(value("response"), role="assistant")
    if turns is None or response is None:
        return None
    advantage = value("advantage")
    return {
        "data_source": text_of(value("data_source"), role="user") or data_source,
        "question": text_of(value("question"), role="user") or question_in(turns),
        "answer": answer_of(value("answer"), answer),
        "message": turns,
        "response": response,
        "response_length": 0,
        "advantage": float(advantage) if isinstance(advantage, int | float) else 1.0,
    }


def question_in(turns: list[dict[str, str]]) -> str:
    """Return the last turn of the user."""
    return next((turn["content"] for turn in reversed(turns) if turn["role"] == "user"), turns[-1]["content"])


def answer_of(value: Any, kind: str) -> Any:
    """Return an answer in the type of the column; None where it is not of it."""
    if kind == "text":
        return text_of(value, role="assistant")
    if isinstance(value, str):
        with contextlib.suppress(ValueError, RecursionError):
            value = json.loads(value)
    try:
        return {"numbers": [int(number) for number in value["numbers"]], "target": int(value["target"])}
    except (TypeError, KeyError, ValueError):
        return None
