"""Countdown: an arithmetic expression of given numbers that makes a target, every number used once."""

from collections.abc import Sequence, Set
from typing import Any

from evals.items import Item
from evals.tasks.benchmark import Benchmark, Row, Source
from evals.tasks.prompts import PROMPT_SPACE, boxed_prompt
from megatron_sft.data.tasks.countdown import make_problem
from megatron_sft.errors import DataError


def read(rows: Sequence[Row], quirks: Set[str]) -> list[Item]:
    """Make an item of each row: `nums` and `target`, or an `answer` with `numbers` and `target`.

    So both the public sets and tools/make_tasks' files are read. All are asked in the words of the latter, whatever
    prompt a row brings.
    """
    items = []
    for number, row in enumerate(rows):
        numbers, target = _instance(row)
        question = make_problem(numbers, target, order_seed=0).question
        answer = {"numbers": numbers, "target": target}
        identity = str(row.fields.get("id", number))
        items.append(Item(id=identity, messages=boxed_prompt(question, quirks), answer=answer))
    return items


def _instance(row: Row) -> tuple[list[int], int]:
    answer = row.fields.get("answer")
    fields: Any = answer if isinstance(answer, dict) else row.fields
    numbers, target = fields.get("numbers", fields.get("nums")), fields.get("target")
    if not isinstance(numbers, list) or not numbers or any(type(value) is not int for value in [*numbers, target]):
        raise DataError(f"{row.where}: expected `nums` (whole numbers) and `target`, found {str(dict(fields))[:120]!r}")
    return numbers, target


BENCHMARK = Benchmark(
    name="countdown",
    title="Countdown",
    group="out-of-domain",
    source=Source(
        local_names=("countdown.held_out.jsonl", "countdown_test.parquet", "countdown.parquet"),
        origin="write it with tools/make_tasks, or bring rows with `nums` and `target`",
    ),
    read=read,
    grader="countdown",
    quirks=PROMPT_SPACE,
)
