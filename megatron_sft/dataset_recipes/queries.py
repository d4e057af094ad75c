"""Makes the queries of a recipe: questions, the user's turns, known answers."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from megatron_sft.dataset_recipes import published
from megatron_sft.dataset_recipes.recipe import QueriesSpec
from megatron_sft.dataset_recipes.row_files import check_columns, numbered_rows, text_of, value_of
from megatron_sft.dataset_recipes.sources import Source
from megatron_sft.errors import DataError

_FIELD = re.compile(r"\{([a-z_]+)\}")


def write_queries(source: Source, spec: QueriesSpec, answer: str, folder: Path) -> dict[str, Any]:
    """Write `queries.jsonl` and `dropped.jsonl` into a folder; return the counts.

    A query has `id`, `data_source`, `question`, `message` and `answer`. Rows without question or answer and questions
    that occur twice are dropped; of the others `draw` are taken, in their order.

    Raises:
        DataError: for a source without the columns, or without a usable row.
    """
    check_columns(source.files, needed_columns(source, spec, answer), source=source.name)
    folder.mkdir(parents=True, exist_ok=True)
    drops: Counter[str] = Counter()
    queries: list[dict[str, Any]] = []
    num_rows = 0
    with (folder / "dropped.jsonl").open("w", encoding="utf-8") as dropped:
        for file, line, query, reason in _read(source, spec, answer):
            num_rows += 1
            if query is None:
                drops[reason] += 1
                write_drop(dropped, file.name, line, reason)
            else:
                queries.append(query)
        if not queries:
            raise DataError(f"{source.files[0]}: no row can be a query: {dict(drops)}")
        num_usable = len(queries)
        queries = draw(queries, spec.draw, spec.seed)
    with (folder / "queries.jsonl").open("w", encoding="utf-8") as output:
        for query in queries:
            output.write(json.dumps(query, ensure_ascii=False) + "\n")
    return {
        "rows_read": num_rows,
        "usable": num_usable,
        "queries": len(queries),
        "dropped_by_reason": dict(sorted(drops.items())),
        "not_drawn": num_usable - len(queries),
    }


def needed_columns(source: Source, spec: QueriesSpec, answer: str) -> dict[str, str]:
    """Return field and column of everything that a query is made of."""
    names = set(_FIELD.findall(spec.question)) | (set(_FIELD.findall(spec.prompt)) - {"question"})
    names |= {"numbers", "target"} if answer == "countdown" else {"answer"}
    return {name: source.columns.get(name, name) for name in sorted(names)}


def _read(source: Source, spec: QueriesSpec, answer: str) -> Iterator[tuple[Path, int, dict[str, Any] | None, str]]:
    """Yield file, line and query, or None with the reason."""
    seen: set[str] = set()
    columns = needed_columns(source, spec, answer)
    for file in source.files:
        for line, row in numbered_rows(file):
            if row is None:
                yield file, line, None, "malformed_json"
                continue
            values = {name: value_of(row, column) for name, column in columns.items()}
            known = values if answer == "countdown" else values["answer"]
            question = fill(spec.question, values)
            result = published.answer_of(known, answer)
            if question is None or not question.strip():
                yield file, line, None, "no_question"
            elif result is None or result == "":
                yield file, line, None, "no_answer"
            elif (identity := identity_of(question)) in seen:
                yield file, line, None, "duplicate_question"
            else:
                seen.add(identity)
                prompt = fill(spec.prompt, values | {"question": question})
                origin = value_of(row, source.columns.get("data_source", "data_source"))
                yield (
                    file,
                    line,
                    {
                        "id": identity,
                        "data_source": origin if isinstance(origin, str) else source.name,
                        "question": question,
                        "answer": result,
                        "message": [*example_turns(spec), {"role": "user", "content": prompt}],
                    },
                    "",
                )


def example_turns(spec: QueriesSpec) -> list[dict[str, str]]:
    """Return the turns that stand in front of each query; of the mapped columns, their prompts know the question."""
    return [
        {"role": role, "content": text}
        for question, response in spec.examples.items()
        for role, text in (("user", fill(spec.prompt, {"question": question}) or ""), ("assistant", response))
    ]


def fill(template: str, values: dict[str, Any]) -> str | None:
    r"""Put values in the place of `{name}`; other braces, as in \boxed{}, stay. None where a value is missing."""
    texts = {name: _text(values[name]) for name in _FIELD.findall(template) if name in values}
    if None in texts.values():
        return None
    return _FIELD.sub(lambda match: texts.get(match[1]) or match[0], template)


def _text(value: Any) -> str | None:
    if isinstance(value, list) and all(isinstance(item, int) for item in value):
        return str(value)
    return text_of(value, role="user")


def identity_of(question: str) -> str:
    """Return the id of a query: 24 hex digits over its question."""
    return hashlib.sha256(question.encode("utf-8", errors="surrogatepass")).hexdigest()[:24]


def rank(seed: int, key: str) -> bytes:
    """Return what a draw compares: it depends on seed and key alone, not on order or number of the others."""
    return hashlib.sha256(f"{seed}:{key}".encode("utf-8", errors="surrogatepass")).digest()


def draw(queries: list[dict[str, Any]], num: int | None, seed: int) -> list[dict[str, Any]]:
    """Return `num` queries, those of the lowest rank, in their order; all where there are not more."""
    if num is None or num >= len(queries):
        return queries
    chosen = {query["id"] for query in sorted(queries, key=lambda query: rank(seed, query["id"]))[:num]}
    return [query for query in queries if query["id"] in chosen]


def write_drop(file: TextIO, name: str, line: int, reason: str, detail: str = "") -> None:
    """Write a line about a row that is not kept, as in `rejects.jsonl`."""
    file.write(json.dumps({"file": name, "line": line, "reason": reason, "detail": detail}, ensure_ascii=False) + "\n")
