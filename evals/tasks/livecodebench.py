"""LiveCodeBench, release v2: 511 contest problems, checked on hidden tests of standard input or of a function."""

import json
from collections.abc import Sequence, Set
from typing import Any

from evals.items import Item
from evals.tasks import published
from evals.tasks.benchmark import Benchmark, Preset, Row, Source
from evals.tasks.prompts import user_turn
from evals.tasks.rows import text_field
from megatron_sft.errors import DataError

STDIN = (
    "Write a Python program that solves this problem. It reads the input from standard input and writes the output "
    "to standard output."
)
FUNCTION = "Write Python code that solves this problem. Begin from this code and keep its names and parameters:"
ENDING = "Think step by step, then give the whole program in one final code block that begins with ```python."


def read(rows: Sequence[Row], quirks: Set[str]) -> list[Item]:
    """Make an item of each row of the `code_generation_lite` files, whose fields are strings.

    `question_id`, `question_content`, `starter_code`, `public_test_cases`, `private_test_cases`, `metadata` with
    `func_name` for problems that ask for a function, `difficulty`.
    """
    return [_item(row) for row in rows]


def _item(row: Row) -> Item:
    # Decoding unpickles nothing; it lives beside the grader that runs the tests.
    from evals.livecodebench_tests import decode_tests

    question = text_field(row, "question_content").strip()
    starter_code = str(row.fields.get("starter_code") or "")
    try:
        tests = [*decode_tests(text_field(row, "public_test_cases")), *_private_tests(row, decode_tests)]
    except ValueError as error:
        raise DataError(f"{row.where}: its tests cannot be read: {error}") from error
    if not tests:
        raise DataError(f"{row.where}: no tests")
    name = _function_name(row)
    if name is None:
        asked = f"{STDIN}\n\n{question}\n\n{ENDING}"
    else:
        asked = f"{FUNCTION}\n\n```python\n{starter_code.rstrip()}\n```\n\n{question}\n\n{ENDING}"
    answer = {"kind": "tests", "fn_name": name, "tests": tests, "starter_code": starter_code}
    subset = str(row.fields.get("difficulty") or "")
    return Item(id=text_field(row, "question_id"), messages=user_turn(asked), answer=answer, subset=subset)


def _private_tests(row: Row, decode: Any) -> Sequence[Any]:
    text = row.fields.get("private_test_cases")
    return decode(text) if text else []


def _function_name(row: Row) -> str | None:
    """The name in the metadata; None for a problem on standard input. Not guessed from the starter code."""
    metadata = row.fields.get("metadata") or "{}"
    try:
        parsed = json.loads(metadata) if isinstance(metadata, str) else metadata
        name = parsed.get("func_name")
    except (ValueError, AttributeError) as error:
        raise DataError(f"{row.where}: `metadata` is no JSON object: {str(metadata)[:80]!r}") from error
    return str(name) if name else None


BENCHMARK = Benchmark(
    name="livecodebench",
    title="LiveCodeBench v2",
    group="out-of-domain",
    source=Source(
        local_names=("livecodebench_v2.jsonl",),
        hub_id="livecodebench/code_generation_lite",
        hub_files=("test.jsonl", "test2.jsonl"),
    ),
    read=read,
    grader="code",
    preset=Preset(num_samples_per_item=3),
    published=published.LIVECODEBENCH,
)
