"""From rejects to kept rows, with the lines as `build_shards` counts them; the draw against a sort."""

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from megatron_sft.data.build_shards import BuildShardsConfig, FilterConfig
from megatron_sft.data.build_shards import main as build_shards
from megatron_sft.dataset_recipes.kept_rows import Account, Choice, _choose, _kept
from megatron_sft.dataset_recipes.queries import draw, fill, rank
from megatron_sft.dataset_recipes.transform import strip_think
from megatron_sft.errors import DataError
from tests.dataset_recipes.conftest import traces_of


@pytest.mark.parametrize("num", [1, 3, 10, 11, None])
def test_the_draw_is_that_of_a_sort(num: int | None) -> None:
    entries: list[tuple[str, int, dict[str, Any]]] = [(f"q{at % 10}", at, {}) for at in range(30)]
    keys = sorted({key for key, _, _ in entries}, key=lambda key: rank(7, key))[:num]
    found = _choose(iter(entries), Choice(num_queries=num, seed=7, expected_rows=None))
    assert sorted(found, key=lambda entry: entry[1]) == [entry for entry in entries if entry[0] in keys]
    queries = [{"id": f"q{at}"} for at in range(10)]
    assert draw(queries, num, 7) == [query for query in queries if query["id"] in keys]


def test_lines_are_counted_as_build_shards_counts_them(tiny_tokenizer: Path, tmp_path: Path) -> None:
    lines = [json.dumps(row).encode() for n in range(4) for row in traces_of(n, (n != 1, False, True))]
    lines[2:2] = [b"", b"{not json", b"   ", b'{"message": 3}', b"\xff\xfe"]
    parts = [b"\n".join(lines[:7]), b"\r\n".join(lines[7:12]) + b"\n", b"\n".join(lines[12:])]
    files = [tmp_path / "a.jsonl", tmp_path / "b.jsonl.gz", tmp_path / "c.jsonl.zst"]
    files[0].write_bytes(parts[0])
    files[1].write_bytes(gzip.compress(parts[1]))
    files[2].write_bytes(pa.compress(parts[2], codec="zstd", asbytes=True))
    config = BuildShardsConfig(
        inputs=tuple(map(str, files)), output=tmp_path / "out", tokenizer=tiny_tokenizer, max_length=300,
        verify="math", select="first-correct", filters=FilterConfig(think="required"),
    )  # fmt: skip
    build_shards(config)
    account = Account()
    kept = [row["id"] for _, _, row in _kept(files, tmp_path / "out", {}, account)]
    assert kept == ["q0/0", "q1/2", "q2/0", "q3/0"]
    assert {key: tuple(count) for key, count in account.answers.items() if key.startswith("q")} == {
        "q0": (3, 2),
        "q1": (3, 1),
        "q2": (3, 2),
        "q3": (3, 2),
    }
    assert sum(account.rejected.values()) == 8 + 3

    # Rejects of something else are noticed.
    rejects = (tmp_path / "out" / "rejects.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "out" / "rejects.jsonl").write_text("".join(rejects[1:]))
    with pytest.raises(DataError, match=r"rejects.jsonl does not fit its inputs"):
        list(_kept(files, tmp_path / "out", {}, Account()))


@pytest.mark.parametrize(
    ("response", "summary"),
    [
        ("<think>\na\n</think>\n\nb  \n", "b  \n"),
        ("<think>a</think>b", "b"),
        ("<think>a</think> <think>c</think>\n b", "b"),
        ("no block\n", "no block\n"),
    ],
)
def test_strip_think(response: str, summary: str) -> None:
    assert strip_think(response) == summary


def test_fill_leaves_other_braces() -> None:
    assert fill("{question}: \\boxed{} {x}", {"question": "Q {y}", "y": "no"}) == "Q {y}: \\boxed{} {x}"
    assert fill("Numbers: {numbers}", {"numbers": [1, 2]}) == "Numbers: [1, 2]"
    assert fill("{question}", {"question": None}) is None
