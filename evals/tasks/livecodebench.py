"""LiveCodeBench, release v2: 511 contest problems, checked on hidden tests of standard input or of a function."""

from collections.abc import Sequence, Set

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

    `question_id`, `question_content`, `starter_code`, `public_test_cases`, `private_test_cases`, `difficulty`, and
    `metadata` with `func_name` for problems that ask for a function.
    """
    return [_item(row) for row in rows]


def _item(row: Row) -> Item:
    # Only here: reading LiveCodeBench's tests is of no use to other benchmarks.
    from evals.livecodebench_tests import code_answer

    try:
        answer = code_answer(row.fields)
    except DataError as error:
        raise DataError(f"{row.where}: {error}") from error
    question = text_field(row, "question_content").strip()
    if answer["fn_name"] is None:
        asked = f"{STDIN}\n\n{question}\n\n{ENDING}"
    else:
        asked = f"{FUNCTION}\n\n```python\n{answer['starter_code'].rstrip()}\n```\n\n{question}\n\n{ENDING}"
    subset = str(row.fields.get("difficulty") or "")
    return Item(id=text_field(row, "question_id"), messages=user_turn(asked), answer=answer, subset=subset)


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
    quirks={"fence_in_trace": "The last code block of the whole response counts, also one inside a trace."},
    quirk_graders={"fence_in_trace": "code_paper"},
    published=published.LIVECODEBENCH,
)
