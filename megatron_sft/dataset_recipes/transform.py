"""Rows that exist already: a subset of them, the responses of another source, the think block cut."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from megatron_sft.dataset_recipes import published
from megatron_sft.dataset_recipes.queries import fill, rank, write_drop
from megatron_sft.dataset_recipes.recipe import StartSpec, SubsetSpec, TransformSpec
from megatron_sft.dataset_recipes.row_files import check_columns, numbered_rows, text_of, turns_of, value_of
from megatron_sft.dataset_recipes.sources import Source
from megatron_sft.errors import DataError
from megatron_sft.files import write_json

_SHOWN = 80
_NAMED = 20
THINK_END = "</think>"


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row in the published schema, and where it stood."""

    file: str
    line: int
    content: dict[str, Any]


def write_candidates(
    start: Source, spec: TransformSpec, joined: Source | None, folder: Path, *, answer: str, begin: StartSpec | None
) -> dict[str, Any]:
    """Write `candidates.parquet` (rows in their order), `dropped.jsonl` and `chosen.json` into a folder.

    Args:
        start: the rows.
        spec: what happens to them.
        joined: where `spec.join` takes responses from.
        folder: for the result.
        answer: type of the column.
        begin: with the prompt for rows without `message`.

    Returns:
        Counts, with the first queries that have no response in `joined`.

    Raises:
        DataError: for a source without the columns, and for a subset larger than the set.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _check_start(start, spec, begin)
    drops: Counter[str] = Counter()
    counts: dict[str, Any] = {}
    with (folder / "dropped.jsonl").open("w", encoding="utf-8") as dropped:

        def drop(file: str, line: int, reason: str, detail: str = "") -> None:
            drops[reason] += 1
            write_drop(dropped, file, line, reason, detail)

        rows = []
        for file, line, content in _read(start, answer, begin):
            counts["rows_read"] = counts.get("rows_read", 0) + 1
            if content is None:
                drop(file, line, "missing_field", "no prompt or no response")
            else:
                rows.append(Row(file=file, line=line, content=content))
        if spec.subset is not None:
            rows, chosen = _subset(rows, spec.subset, start.files[0])
            counts["not_in_subset"] = counts["rows_read"] - sum(drops.values()) - len(rows)
            write_json(folder / "chosen.json", chosen)
        if joined is not None:
            responses, counts["join"] = _responses(joined, {_key(row.content["question"]) for row in rows})
            missing = [row for row in rows if _key(row.content["question"]) not in responses]
            for row in missing:
                drop(row.file, row.line, "no_joined_response", row.content["question"][:_SHOWN])
            places = [f"{row.file}:{row.line}" for row in missing[:_NAMED]]
            counts["join"] |= {"num_without_response": len(missing), "without_response": places}
            if missing:
                more = ", ..." if len(missing) > _NAMED else ""
                print(f"  {len(missing)} questions have no response in {joined.name}: {', '.join(places)}{more}")
            rows = [
                Row(file=row.file, line=row.line, content=row.content | {"response": responses[question]})
                for row in rows
                if (question := _key(row.content["question"])) in responses
            ]
        if spec.strip_think:
            counts["without_think_block"] = sum(THINK_END not in row.content["response"] for row in rows)
            for row in rows:
                row.content["response"] = strip_think(row.content["response"])
    if not rows:
        raise DataError(f"{start.files[0]}: no row is left: {dict(drops)}")
    published.write_rows(folder / "candidates.parquet", (row.content for row in rows), answer)
    return counts | {"rows": len(rows), "dropped_by_reason": dict(sorted(drops.items()))}


def strip_think(response: str) -> str:
    """Return what follows the last `</think>` and the white space behind it; all of it where there is no tag."""
    _, tag, summary = response.rpartition(THINK_END)
    return summary.lstrip() if tag else response


def _check_start(start: Source, spec: TransformSpec, begin: StartSpec | None) -> None:
    names = {"message"} if begin is None or begin.prompt is None else {"question"}
    names |= {"question"} if spec.join or spec.subset else set()
    names |= set() if spec.join else {"response"}
    columns = {name: start.columns.get(name, name) for name in sorted(names)}
    check_columns(start.files, columns, source=start.name)


def _read(start: Source, answer: str, begin: StartSpec | None) -> Iterator[tuple[str, int, dict[str, Any] | None]]:
    """Yield file, line and the row in the published schema, None where it is none."""
    columns = start.columns
    for file in start.files:
        for line, row in numbered_rows(file):
            if row is not None and begin is not None and begin.prompt is not None:
                question = text_of(value_of(row, columns.get("question", "question")), role="user")
                if turns_of(value_of(row, columns.get("message", "message"))) is None and question is not None:
                    prompt = fill(begin.prompt, {"question": question})
                    row = row | {columns.get("message", "message"): [{"role": "user", "content": prompt}]}
            content = None if row is None else published.row_of(row, columns, answer=answer, data_source=start.name)
            yield file.name, line, content


def _subset(rows: list[Row], spec: SubsetSpec, file: Path) -> tuple[list[Row], dict[str, Any]]:
    """Return the chosen rows in their order, and the record of the choice."""
    if spec.num > len(rows):
        raise DataError(f"{file}: has {len(rows)} rows, the recipe chooses {spec.num}: see --expected-rows")
    numbers = list(range(len(rows)))
    if spec.how == "random":
        numbers.sort(key=lambda number: (rank(spec.seed, rows[number].content["question"]), number))
    chosen = sorted(numbers[: spec.num])
    record = {"how": spec.how, "seed": spec.seed if spec.how == "random" else None, "num": spec.num, "of": len(rows)}
    return [rows[number] for number in chosen], record | {"rows_from_0": chosen}


def _key(question: str) -> str:
    """Return what two questions are compared by: their text, white space aside."""
    return " ".join(question.split())


def _responses(joined: Source, wanted: set[str]) -> tuple[dict[str, str], dict[str, Any]]:
    """Return the first response to each wanted question, and counts."""
    columns = {name: joined.columns.get(name, name) for name in ("question", "response")}
    check_columns(joined.files, columns, source=joined.name)
    responses: dict[str, str] = {}
    counts = {"rows_read": 0, "other_questions": 0, "further_responses": 0, "empty_responses": 0}
    for file in joined.files:
        for _, row in numbered_rows(file):
            counts["rows_read"] += 1
            question = None if row is None else text_of(value_of(row, columns["question"]), role="user")
            if row is None or question is None or _key(question) not in wanted:
                counts["other_questions"] += 1
                continue
            response = text_of(value_of(row, columns["response"]), role="assistant")
            if response is None or not response.strip():
                counts["empty_responses"] += 1
            elif responses.setdefault(_key(question), response) != response:
                counts["further_responses"] += 1
    return responses, counts


def read_chosen(folder: Path) -> dict[str, Any] | None:
    """Return the record of a subset, if there is one."""
    path = folder / "chosen.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
