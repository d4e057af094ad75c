"""HumanEval: 164 Python functions to complete, checked by unit tests. Not among the paper's benchmarks."""

from collections.abc import Sequence, Set

from evals.items import Item
from evals.tasks.benchmark import Benchmark, Row, Source
from evals.tasks.prompts import user_turn
from evals.tasks.rows import text_field


def read(rows: Sequence[Row], quirks: Set[str]) -> list[Item]:
    """Make an item of each row: `task_id`, `prompt`, `entry_point`, `test`."""
    return [_item(row) for row in rows]


def _item(row: Row) -> Item:
    prompt, entry_point = text_field(row, "prompt"), text_field(row, "entry_point")
    asked = (
        f"Complete this Python function so that it does what its documentation says.\n\n```python\n{prompt.rstrip()}\n"
        f"```\n\nThink step by step, then give the whole function `{entry_point}`, with what it imports and any "
        "helpers, in one final code block that begins with ```python."
    )
    answer = {"kind": "function", "prompt": prompt, "entry_point": entry_point, "test": text_field(row, "test")}
    return Item(id=text_field(row, "task_id"), messages=user_turn(asked), answer=answer)


BENCHMARK = Benchmark(
    name="humaneval",
    title="HumanEval",
    group="out-of-domain",
    source=Source(
        local_names=("humaneval.jsonl", "humaneval.jsonl.gz", "HumanEval.jsonl.gz", "humaneval.parquet"),
        hub_id="openai/openai_humaneval",
        hub_files=("openai_humaneval/test-00000-of-00001.parquet",),
    ),
    read=read,
    grader="code",
)
