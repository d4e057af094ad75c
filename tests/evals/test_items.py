"""Held-out problems."""

from pathlib import Path

import pytest

from evals.items import load_items
from megatron_sft.errors import DataError


def test_messages_and_prompts_are_read_up_to_the_limit(data: Path) -> None:
    items = load_items(data, "addition", 2)
    assert [item.id for item in items] == ["addition-3-5", "addition-12-9"]
    assert load_items(data, "countdown", None)[1].messages == [{"role": "user", "content": "Make 6 of 2 and 3."}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            '{"id": "a", "prompt": "?", "answer": "1"}\n{"id": "a", "prompt": "?", "answer": "1"}\n',
            r"jsonl:2: the id 'a'",
        ),
        ('{"id": "a", "prompt": "?"}\n', r"jsonl:1: expected `message`"),
        ('{"id": "a", "message": [], "answer": "1"}\n', r"jsonl:1: expected `message`"),
        ('{"id": "a", "message": [{"role": "user"}], "answer": "1"}\n', r"jsonl:1: expected `message`"),
        ('{"prompt": "?", "answer": "1"}\n', r"jsonl:1: expected an `id`"),
        ('{"id": "a", "prompt"\n', r"jsonl:1: not JSON"),
        ("", "has no rows"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "x.held_out.jsonl").write_text(content)
    with pytest.raises(DataError, match=message):
        load_items(tmp_path, "x", None)


def test_a_missing_file_or_too_high_a_limit_is_an_error(data: Path) -> None:
    with pytest.raises(DataError, match=r"other\.held_out\.jsonl does not exist: name its folder with --data"):
        load_items(data, "other", None)
    with pytest.raises(DataError, match="has 6 problems, fewer than --limit 7"):
        load_items(data, "addition", 7)
