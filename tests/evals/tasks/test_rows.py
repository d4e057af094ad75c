"""Reading the files of benchmarks, whole and damaged."""

import gzip
import json
from pathlib import Path

import pytest

from evals.tasks.benchmark import Row
from evals.tasks.rows import read_rows, text_field
from megatron_sft.errors import DataError

ROWS = [{"a": "eins\u2028zwei", "b": 1}, {"a": "drei", "b": 2}]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.jsonl", LINES.encode()),
        ("x.jsonl", ("\ufeff" + LINES + "\n").encode()),
        ("x.jsonl.gz", gzip.compress(LINES.encode())),
        ("x.json", json.dumps(ROWS).encode()),
        ("x.json.gz", gzip.compress(json.dumps(ROWS, indent=1).encode())),
        ("x.json", json.dumps({"name": "x", "rows": ROWS}, indent=1).encode()),
        ("x.json", LINES.encode()),
    ],
)
def test_every_kind_of_json(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    rows = read_rows(tmp_path / name)
    assert [dict(row.fields) for row in rows] == ROWS
    assert rows[1].where == f"{tmp_path / name}, row 2"


def test_one_json_line_is_one_row_also_with_a_list_in_it(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"a": [1, 2]}\n', encoding="utf-8")
    assert [dict(row.fields) for row in read_rows(tmp_path / "x.json")] == [{"a": [1, 2]}]


def test_csv_with_a_byte_order_mark_and_line_breaks_in_cells(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text('\ufeffa,b\n"one\ntwo",2\n', encoding="utf-8")
    assert [dict(row.fields) for row in read_rows(tmp_path / "x.csv")] == [{"a": "one\ntwo", "b": "2"}]


def test_parquet(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "x.parquet")
    assert [dict(row.fields) for row in read_rows(tmp_path / "x.parquet")] == ROWS
    (tmp_path / "y.parquet").write_bytes(b"no")
    with pytest.raises(DataError, match=r"y\.parquet: not a parquet file"):
        read_rows(tmp_path / "y.parquet")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.jsonl", b'{"a": 1}\n{"a": \n', r"x\.jsonl:2: not JSON"),
        ("x.jsonl", b'{"a": 1}\n[1]\n', r"x\.jsonl, row 2: expected an object, found list"),
        ("x.jsonl", b"\n", r"x\.jsonl: no rows"),
        ("x.jsonl", b"\xff\xfe", r"x\.jsonl: damaged or not UTF-8"),
        ("x.jsonl.gz", b"plain", r"x\.jsonl\.gz: damaged"),
        ("x.json", b"3", r"x\.json: expected a list"),
        ("x.csv", b"a,b\n1,2,3\n", r"x\.csv, row 1: it has more or fewer cells"),
        ("x.csv", b"a,b\n1\n", r"x\.csv, row 1: it has more or fewer cells"),
        ("x.txt", b"a", r"x\.txt: unknown kind of file"),
        ("x.csv.gz", b"a", r"x\.csv\.gz: unknown kind of file"),
    ],
)
def test_damaged_files_are_named(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_rows(tmp_path / name)


def test_fields_of_a_row() -> None:
    row = Row(fields={"a": "x", "b": 5, "c": None, "d": [1], "e": True}, where="file, row 1")
    assert text_field(row, "a") == "x"
    assert text_field(row, "b") == "5"
    assert text_field(row, "c", "a") == "x"
    for name in ("d", "e"):
        with pytest.raises(DataError, match=f"file, row 1: `{name}` must be a string"):
            text_field(row, name)
    with pytest.raises(DataError, match="file, row 1: expected `c` or `z`, found the fields a, b, c, d, e"):
        text_field(row, "c", "z")
