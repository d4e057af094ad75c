"""Held-out problems, read from `<task>.held_out.jsonl`."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from megatron_sft.errors import DataError
from megatron_sft.metrics import read_jsonl


@dataclass(frozen=True, kw_only=True)
class Item:
    """One problem."""

    id: str
    """Unique within its task."""
    messages: list[dict[str, str]]
    """The conversation up to the model's turn."""
    answer: Any
    """What the grader compares with: a string, or an object whose fields the grader names."""
    subset: str = ""
    """Subject, category or level within the task; scores are also given by subset where there are several."""


def load_items(data: Path, task: str, limit: int | None) -> list[Item]:
    """Read the first `limit` problems of `task` (all, if None).

    Raises:
        DataError: for a missing or empty file, a row without `message` or `prompt`, `id` or `answer`, or an id
            that occurs twice; the message names file and line.
    """
    path = data / f"{task}.held_out.jsonl"
    if not path.is_file():
        raise DataError(
            f"task {task}: {path} does not exist: name its folder with --data, or write it with tools/make_tasks"
        )
    items: list[Item] = []
    seen: set[str] = set()
    for number, row in enumerate(read_jsonl(path), start=1):
        item = _item(row, f"{path}:{number}")
        if item.id in seen:
            raise DataError(f"{path}:{number}: the id {item.id!r} occurred before: ids must be unique")
        seen.add(item.id)
        items.append(item)
        if len(items) == limit:
            break
    if not items:
        raise DataError(f"task {task}: {path} has no rows")
    if limit is not None and len(items) < limit:
        raise DataError(f"task {task}: {path} has {len(items)} problems, fewer than --limit {limit}: lower the limit")
    return items


def _item(row: dict[str, Any], where: str) -> Item:
    messages: Any = row.get("message")
    if messages is None and isinstance(row.get("prompt"), str):
        messages = [{"role": "user", "content": row["prompt"]}]
    well_formed = isinstance(messages, list) and messages and all(_is_turn(turn) for turn in messages)
    if not well_formed or "answer" not in row:
        shown = json.dumps(row, ensure_ascii=False)[:120]
        raise DataError(
            f"{where}: expected `message` (turns with role and content) or `prompt`, and `answer`, found {shown}"
        )
    if not isinstance(row.get("id"), str):
        raise DataError(f"{where}: expected an `id` (string), found {row.get('id')!r}")
    return Item(id=row["id"], messages=messages, answer=row["answer"])


def _is_turn(turn: Any) -> bool:
    return isinstance(turn, dict) and isinstance(turn.get("role"), str) and isinstance(turn.get("content"), str)
