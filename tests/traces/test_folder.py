"""The folder of traces after kills, with several writers, and when it is not what it should be."""

import json
from pathlib import Path
from typing import Any

import pytest

from megatron_sft.errors import ConfigError, DataError
from megatron_sft.traces.folder import TraceFolder
from megatron_sft.traces.queries import Query

SETTINGS = {"--seed": 0}


def query(name: str) -> Query:
    return Query(
        id=name, where=f"rows:{name}", messages=[], prompt_token_ids=[1], opening="", carried={}, sha256=f"hash {name}"
    )


QUERIES = [query("a"), query("b")]


def open_folder(path: Path, rank: int = 0, size: int = 1, settings: dict[str, Any] = SETTINGS) -> TraceFolder:
    return TraceFolder(path, settings, QUERIES, num_samples=2, rank=rank, size=size)


def row(name: str, sample: int) -> dict[str, Any]:
    common = {"num_tokens": 3, "finish_reason": "stop", "engine": {"vllm": "1"}, "query_sha256": f"hash {name}"}
    return {"query_id": name, "sample": sample, "response": "x\u2028y", **common}


def test_a_cut_line_is_dropped_and_nothing_else(tmp_path: Path) -> None:
    folder = open_folder(tmp_path)
    folder.append(row("a", 0))
    folder.append(row("b", 1))
    folder.close()
    file = tmp_path / "traces-0000-of-0001.jsonl"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])

    folder = open_folder(tmp_path)
    assert folder.on_file.missing("a", 2) == [1]
    assert folder.on_file.missing("b", 2) == [0, 1]
    assert not folder.finish()
    folder.append(row("b", 1))
    assert file.read_bytes() == whole
    folder.append(row("a", 1))
    folder.append(row("b", 0))
    assert folder.finish()
    folder.close()
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert (manifest["num_rows"], manifest["num_tokens"], manifest["finish_reasons"]) == (4, 12, {"stop": 4})


def test_a_file_has_one_writer(tmp_path: Path) -> None:
    first = open_folder(tmp_path, 0, 2)
    with pytest.raises(ConfigError, match="another process writes this file"):
        open_folder(tmp_path, 0, 2)
    with pytest.raises(ConfigError, match="--data-parallel-size 2, this one has 1"):
        open_folder(tmp_path)
    # What another one is writing at this moment is not cut off.
    first.append(row("a", 0))
    file = tmp_path / "traces-0000-of-0002.jsonl"
    with file.open("ab") as half:
        half.write(b'{"query_id": ')
    second = open_folder(tmp_path, 1, 2)
    assert second.on_file.samples == {"a": 1}
    assert file.read_bytes().endswith(b'{"query_id": ')
    second.close()
    first.close()
    open_folder(tmp_path).close()
    assert file.read_bytes().endswith(b"}\n"), "nobody writes it now"


def test_failures_are_those_of_the_last_run(tmp_path: Path) -> None:
    folder = open_folder(tmp_path, 1, 2)
    folder.fail({"query_id": "b"})
    folder.close()
    file = tmp_path / "failures-0001-of-0002.jsonl"
    assert json.loads(file.read_text()) == {"query_id": "b"}
    open_folder(tmp_path, 0, 2).close()
    assert file.exists(), "rank 1 has not been started again"
    open_folder(tmp_path).close()
    assert not file.exists()


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([row("a", 0), row("a", 0)], r"jsonl:2: sample 0 of 'a' is there for the second time"),
        ([row("c", 0)], "the query 'c' is not in the input"),
        ([row("a", 2)], "sample 2 is beyond --num-samples 2"),
        ([row("a", 0) | {"query_sha256": "hash old"}], "'a' had another prompt or other columns than in rows:a now"),
        ([{"id": 1}], "not written by this program"),
    ],
)
def test_rows_that_do_not_belong_there(lines: list[dict[str, Any]], message: str, tmp_path: Path) -> None:
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (tmp_path / "traces-0000-of-0001.jsonl").write_text(text)
    with pytest.raises(DataError, match=message):
        open_folder(tmp_path)


def test_a_damaged_line_in_the_middle_is_named(tmp_path: Path) -> None:
    (tmp_path / "traces-0000-of-0001.jsonl").write_text(json.dumps(row("a", 0)) + "\n\x00\x00\n")
    with pytest.raises(DataError, match=r"jsonl:2: not JSON"):
        open_folder(tmp_path)


def test_other_settings_are_refused_by_name(tmp_path: Path) -> None:
    open_folder(tmp_path).close()
    with pytest.raises(ConfigError, match=r"--seed: 0 there, 1 now\n  --top-p: None there, 0.9 now"):
        open_folder(tmp_path, settings={"--seed": 1, "--top-p": 0.9})
