"""The generated corpus: the same bytes for a seed, rows that the builder takes, right answers but for a few."""

import json
from pathlib import Path

from megatron_sft._native import verify_countdown
from megatron_sft.workbench.bench.corpus import make_corpus


def test_equal_seeds_give_equal_bytes(tmp_path: Path) -> None:
    num_rows = make_corpus(tmp_path / "a.jsonl", 0.3, seed=1)
    make_corpus(tmp_path / "b.jsonl", 0.3, seed=1)
    make_corpus(tmp_path / "c.jsonl", 0.3, seed=2)
    content = (tmp_path / "a.jsonl").read_bytes()
    assert content == (tmp_path / "b.jsonl").read_bytes() != (tmp_path / "c.jsonl").read_bytes()
    assert 300_000 <= len(content) < 600_000
    assert content.count(b"\n") == num_rows
    assert {path.name for path in tmp_path.iterdir()} == {"a.jsonl", "b.jsonl", "c.jsonl"}


def test_most_answers_are_right_and_some_are_not(tmp_path: Path) -> None:
    make_corpus(tmp_path / "rows.jsonl", 10, seed=0)
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text(encoding="utf-8").splitlines()]
    verdicts = []
    for row in rows:
        assert row["response"].startswith("<think>\n") and row["response"].count("</think>") == 1
        assert [turn["role"] for turn in row["message"]] == ["user"]
        _, why = verify_countdown(row["response"], row["answer"]["numbers"], row["answer"]["target"])
        verdicts.append(why.partition(":")[0])
    assert len(rows) == len({row["id"] for row in rows}) > 300
    assert 0.93 < verdicts.count("") / len(rows) < 0.98
    assert verdicts.count("wrong_answer") > 3
    assert verdicts.count("no_boxed_answer") > 0


def test_lengths_spread_like_those_of_traces(tmp_path: Path) -> None:
    make_corpus(tmp_path / "rows.jsonl", 10, seed=0)
    lengths = sorted(len(json.loads(line)["response"]) for line in (tmp_path / "rows.jsonl").open(encoding="utf-8"))
    mean = sum(lengths) / len(lengths)
    assert 18_000 < mean < 25_000
    assert lengths[len(lengths) // 2] < 0.9 * mean
    assert lengths[-1] > 60_000
