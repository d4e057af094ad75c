"""Miniature sources with the columns of the published ones, and a way to build them."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from megatron_sft.dataset_recipes.__main__ import main

SUFFIX = "\nPlease reason step by step, and put your final answer within \\boxed{}."
NUM_ROWS = 16
TURNS = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
PUBLISHED = pa.schema(
    [
        *(("data_source", pa.string()), ("question", pa.string()), ("answer", pa.string()), ("message", TURNS)),
        *(("response", pa.string()), ("response_length", pa.int64()), ("advantage", pa.float64())),
    ]
)


def question(number: int) -> str:
    return f"What is {number} + {number + 1}?"


def summary(number: int) -> str:
    return f"**Step 1.**  Add: {number} + {number + 1}.\n\n\nSo \\boxed{{{2 * number + 1}}} \n"


def trace(number: int) -> str:
    return f"<think>\nOkay, {number} and {number + 1}.\n</think>\n\n{summary(number)}"


def published_row(number: int) -> dict[str, Any]:
    return {
        "data_source": "olympiads",
        "question": question(number),
        "answer": str(2 * number + 1),
        "message": [{"role": "user", "content": question(number) + SUFFIX}],
        "response": trace(number),
        "response_length": 7,
        "advantage": 1.0,
    }


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def math_cot(tmp_path: Path) -> Path:
    """Math-CoT-20k in miniature, with a column more, as some published sets have."""
    rows = [published_row(number) | {"logprob": [-0.5]} for number in range(NUM_ROWS)]
    table = pa.Table.from_pylist(rows, PUBLISHED.append(pa.field("logprob", pa.list_(pa.float64()))))
    pq.write_table(table, tmp_path / "math-cot.parquet")
    return tmp_path / "math-cot.parquet"


@pytest.fixture
def openr1(tmp_path: Path) -> Path:
    """OpenR1-Math's columns: a question without an answer, and one that occurs twice, besides those to be used."""
    rows = [
        {"problem": question(n), "answer": str(2 * n + 1), "source": "amc", "solution": "s"} for n in range(NUM_ROWS)
    ]
    rows[3:3] = [{"problem": "Prove it.", "answer": None, "source": "x", "solution": ""}, rows[0]]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "openr1.parquet")
    return tmp_path / "openr1.parquet"


def traces_of(number: int, right: tuple[bool, ...]) -> list[dict[str, Any]]:
    """Rows as `generate_traces` files them: one for each flag, right or wrong."""
    row = published_row(number)
    return [
        {
            **{name: row[name] for name in ("data_source", "question", "answer", "message")},
            "id": f"q{number}/{sample}",
            "query_id": f"q{number}",
            "sample": sample,
            "response": trace(number if good else number + 100).replace("Okay", f"Okay {sample}"),
            "num_tokens": 40,
            "finish_reason": "stop" if good else "length",
        }
        for sample, good in enumerate(right)
    ]


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def build(recipe: str | Path, output: Path, tokenizer: Path, *words: str | Path) -> int:
    """Run the program."""
    arguments = [str(recipe), "--output", str(output), "--tokenizer", str(tokenizer), "--workers", "1"]
    return main([*arguments, *map(str, words)])


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return pq.read_table(folder / "rows.parquet").to_pylist()


def dataset(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    return content
