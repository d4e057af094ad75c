"""From what `build_shards` kept of the candidates to the rows of the set, in the order of the queries."""

import heapq
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from megatron_sft.data.chat import ChatTokenizer
from megatron_sft.dataset_recipes import published
from megatron_sft.dataset_recipes.queries import rank
from megatron_sft.dataset_recipes.row_files import numbered_rows, value_of
from megatron_sft.errors import DataError, IncompleteError
from megatron_sft.files import write_json

ACCEPTED = frozenset(("not_selected", "duplicate", "near_duplicate"))
"""Reasons to reject a row that passed every filter and the verifier."""
_REASONS_SHOWN = 6


@dataclass(kw_only=True)
class Account:
    """What a pass over the candidates has seen."""

    answers: dict[str, list[int]] = field(default_factory=dict)
    """Of each query in the order of its first row: responses, and those accepted."""
    finished: Counter[str] = field(default_factory=Counter)
    """Responses by their `finish_reason`, where the rows tell it."""
    rejected: Counter[str] = field(default_factory=Counter)
    """Rows by the reason of `rejects.jsonl`."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """How many rows there must be, and which queries make them."""

    num_queries: int | None
    seed: int
    expected_rows: int | None


def write_kept(
    candidates: list[Path],
    selected: Path,
    order: Path | None,
    output: Path,
    *,
    keep_order: bool,
    columns: dict[str, str],
    answer: str,
    data_source: str,
    choice: Choice,
    tokenizer: ChatTokenizer,
    dropped: Path | None,
    examples: list[dict[str, str]],
) -> dict[str, Any]:
    """Write `output`/rows.parquet's rows and `output`/rows/account.json; return the counts.

    Args:
        candidates: the inputs of `build_shards`, in order.
        selected: its folder.
        order: queries whose ids (`query_id` of the candidates) give the order; None: that of each query's first row.
        output: the set's folder.
        keep_order: leave the rows where they stand among the candidates, whatever their queries.
        columns: field: column of the candidates, where they differ.
        answer: type of the column.
        data_source: for rows that name none.
        choice: which queries, and how many rows are expected.
        examples: turns that stood in front of the question for the teacher; the rows do not have them.
        dropped: lines about rows that did not become candidates, for the message about a wrong number.
        tokenizer: the student's; `response_length` is the response's length in its tokens, without the stop token.

    Raises:
        IncompleteError: when there are not as many rows as expected; with the main reasons.
    """
    account = Account()
    kept = _choose(_kept(candidates, selected, columns, account), choice)
    num_accepted = sum(1 for _, accepted in account.answers.values() if accepted)
    if keep_order:
        kept.sort(key=lambda entry: entry[1])
    else:
        positions = _positions(order) if order is not None else {key: at for at, key in enumerate(account.answers)}
        kept.sort(key=lambda entry: (positions[entry[0]], _sample(entry[2]), entry[1]))
    if choice.expected_rows is not None and len(kept) != choice.expected_rows:
        raise _mismatch(len(kept), choice.expected_rows, account, num_accepted, [dropped, selected / "rejects.jsonl"])
    rows = _finished_rows([row for _, _, row in kept], columns, answer, data_source, tokenizer, examples)
    num_rows = published.write_rows(output / "rows.parquet", rows, answer)
    (output / "rows").mkdir(exist_ok=True)
    write_json(output / "rows" / "account.json", _summary(account))
    return {
        "candidates": sum(count for count, _ in account.answers.values()),
        "queries": len(account.answers),
        "queries_with_an_accepted_response": num_accepted,
        "rows": num_rows,
        "query_not_drawn": num_accepted - len({key for key, _, _ in kept}),
    }


def _kept(
    candidates: list[Path], selected: Path, columns: dict[str, str], account: Account
) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """Yield query, number and content of the candidates without a line in `rejects.jsonl`; fill the account."""
    manifest = json.loads((selected / "manifest.json").read_text(encoding="utf-8"))
    names = [entry["name"] for entry in manifest["inputs"]]
    with (selected / "rejects.jsonl").open(encoding="utf-8") as lines:
        rejects = (json.loads(line) for line in lines)
        reject = next(rejects, None)
        number = num_kept = 0
        for name, path in zip(names, candidates, strict=True):
            for line, row in numbered_rows(path):
                number += 1
                reason = None
                if reject is not None and (reject["file"], reject["line"]) == (name, line):
                    reason = str(reject["reason"])
                    reject = next(rejects, None)
                    account.rejected[reason] += 1
                if row is None:
                    continue
                key = query_of(row, columns)
                answers = account.answers.setdefault(key, [0, 0])
                answers[0] += 1
                answers[1] += reason is None or reason in ACCEPTED
                if isinstance(finish := row.get("finish_reason"), str):
                    account.finished[finish] += 1
                if reason is None:
                    num_kept += 1
                    yield key, number, row
    if reject is not None or num_kept != manifest["counts"]["rows_kept"]:
        raise DataError(f"{selected}/rejects.jsonl does not fit its inputs: remove {selected}, and build it again")


def query_of(row: dict[str, Any], columns: dict[str, str]) -> str:
    """Return what the rows of one query share: `query_id`, else the turns."""
    value = value_of(row, columns.get("query_id", "query_id"))
    if value is None:
        message = value_of(row, columns.get("message", "message"))
        value = value_of(row, columns.get("prompt", "prompt")) if message is None else message
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)


def _choose(rows: Iterator[tuple[str, int, dict[str, Any]]], choice: Choice) -> list[tuple[str, int, dict[str, Any]]]:
    """Return the rows of the `num_queries` queries of the lowest rank; no more of them are in memory at a time."""
    if choice.num_queries is None:
        return list(rows)
    # Python's heap has its smallest entry in front: ranks are negated, so that this is the one to give way.
    heap: list[tuple[int, str]] = []
    by_query: dict[str, list[tuple[str, int, dict[str, Any]]]] = {}
    for entry in rows:
        key = entry[0]
        if key in by_query:
            by_query[key].append(entry)
            continue
        place = (-int.from_bytes(rank(choice.seed, key)), key)
        if len(heap) < choice.num_queries:
            heapq.heappush(heap, place)
        else:
            _, gone = heapq.heappushpop(heap, place)
            if gone == key:
                continue
            del by_query[gone]
        by_query[key] = [entry]
    return [entry for entries in by_query.values() for entry in entries]


def _positions(order: Path) -> dict[str, int]:
    """Return the place of each query."""
    return {row["id"]: at for at, (_, row) in enumerate(numbered_rows(order)) if row is not None}


def _sample(row: dict[str, Any]) -> int:
    sample = row.get("sample")
    return sample if isinstance(sample, int) else 0


def _finished_rows(
    rows: list[dict[str, Any]],
    columns: dict[str, str],
    answer: str,
    data_source: str,
    tokenizer: ChatTokenizer,
    examples: list[dict[str, str]],
) -> Iterator[dict[str, Any]]:
    for row in rows:
        content = published.row_of(row, columns, answer=answer, data_source=data_source)
        # build_shards kept it, so it has both.
        assert content is not None
        turns = content["message"]
        if examples and turns[: len(examples)] == examples:
            content["message"] = turns[len(examples) :]
        yield content | {"response_length": len(tokenizer.encode(content["response"]))}


def _mismatch(
    found: int, expected: int, account: Account, num_accepted: int, files: list[Path | None]
) -> IncompleteError:
    there = [file for file in files if file is not None and file.is_file()]
    reasons: Counter[str] = Counter()
    for file in there:
        with file.open(encoding="utf-8") as lines:
            reasons.update(json.loads(line)["reason"] for line in lines)
    main = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common(_REASONS_SHOWN))
    return IncompleteError(
        f"{found} rows, the recipe expects {expected}. Of {len(account.answers)} queries {num_accepted} have a "
        f"response that may be kept; rows were dropped as: {main or 'none'}, see {', '.join(map(str, there))}. "
        f"For a smaller source give --expected-rows {found}"
    )


def _summary(account: Account) -> dict[str, Any]:
    histogram = Counter((count, accepted) for count, accepted in account.answers.values())
    return {
        "accepted_of_responses": [[count, accepted, num] for (count, accepted), num in sorted(histogram.items())],
        "finish_reasons": dict(sorted(account.finished.items())),
        "rejected_by_reason": dict(sorted(account.rejected.items())),
    }
