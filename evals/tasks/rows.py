"""Reading the files of benchmarks: JSON Lines, JSON, CSV, parquet; the first two also gzipped."""

import csv
import gzip
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from evals.tasks.benchmark import Row
from megatron_sft.errors import DataError, EnvironmentProblem

SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".json.gz", ".csv", ".parquet")


def read_rows(path: Path) -> list[Row]:
    """Read all rows of a file, in its order.

    `.json` may be a list of objects, an object with one list of them, or JSON Lines under another name.

    Raises:
        DataError: for a file that is not what its suffix says or has no rows; the message names file and row.
        EnvironmentProblem: for parquet without pyarrow.
    """
    name = path.name.removesuffix(".gz")
    if name.endswith(".csv") and name == path.name:
        fields: Iterable[Any] = _read_csv(path)
    elif name.endswith(".parquet") and name == path.name:
        fields = _read_parquet(path)
    elif name.endswith(".jsonl"):
        fields = _parse_lines(path, _read_text(path))
    elif name.endswith(".json"):
        fields = _read_json(path)
    else:
        raise DataError(f"{path}: unknown kind of file: expected one of {', '.join(SUFFIXES)}")
    rows = []
    for number, row in enumerate(fields, start=1):
        where = f"{path}, row {number}"
        if not isinstance(row, dict):
            raise DataError(f"{where}: expected an object, found {type(row).__name__}: {str(row)[:80]!r}")
        rows.append(Row(fields=row, where=where))
    if not rows:
        raise DataError(f"{path}: no rows")
    return rows


def text_field(row: Row, *names: str) -> str:
    """Return the first of the named fields that is there, as a string; a whole number counts as its digits.

    Raises:
        DataError: when none is there or it holds something else.
    """
    for name in names:
        value = row.fields.get(name)
        if isinstance(value, str):
            return value
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if value is not None:
            raise DataError(f"{row.where}: `{name}` must be a string, found {str(value)[:80]!r}")
    raise DataError(
        f"{row.where}: expected `{'` or `'.join(names)}`, found the fields {', '.join(map(str, row.fields))}"
    )


def _read_text(path: Path) -> str:
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        return raw.decode("utf-8-sig")
    except (UnicodeDecodeError, EOFError, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: damaged or not UTF-8: {error}") from error


def _parse_lines(path: Path, text: str) -> Iterator[Any]:
    # Not splitlines: JSON strings may hold U+2028 and its like unescaped.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                yield json.loads(line)
            except ValueError as error:
                raise DataError(f"{path}:{number}: not JSON ({error}): {line[:80]!r}") from error


def _read_json(path: Path) -> Iterable[Any]:
    text = _read_text(path)
    try:
        whole = json.loads(text)
    except ValueError:
        return _parse_lines(path, text)
    if isinstance(whole, dict):
        lists = [value for value in whole.values() if isinstance(value, list)]
        # One object on one line is a file of JSON Lines with a single row.
        whole = lists[0] if len(lists) == 1 and "\n" in text.strip() else [whole]
    if not isinstance(whole, list):
        raise DataError(f"{path}: expected a list of objects, found {type(whole).__name__}")
    return whole


def _read_csv(path: Path) -> Iterator[Any]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            for number, row in enumerate(csv.DictReader(file), start=1):
                if None in row or None in row.values():
                    raise DataError(f"{path}, row {number}: it has more or fewer cells than the header")
                yield row
        except (csv.Error, UnicodeDecodeError) as error:
            raise DataError(f"{path}: not CSV in UTF-8: {error}") from error


def _read_parquet(path: Path) -> list[Any]:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise EnvironmentProblem(
            f"{path}: parquet needs pyarrow: run 'pip install pyarrow', or convert the file to JSON Lines"
        ) from error
    try:
        rows: list[Any] = pyarrow.parquet.read_table(path).to_pylist()
    except (OSError, pyarrow.ArrowInvalid) as error:
        raise DataError(f"{path}: not a parquet file: {error}") from error
    return rows
