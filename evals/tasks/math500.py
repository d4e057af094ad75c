"""MATH-500: 500 competition problems, their answers compared as mathematics."""

from collections.abc import Sequence, Set

from evals.items import Item
from evals.tasks import published
from evals.tasks.benchmark import Benchmark, Preset, Row, Source
from evals.tasks.prompts import PROMPT_SPACE, boxed_prompt
from evals.tasks.rows import text_field

MATH_QUIRKS = {
    **PROMPT_SPACE,
    "box_in_trace": "The last box of the whole response counts, also one inside a trace, finished or not.",
}
"""The paper's own mathematics script; it also reads answers without any box, which this project does not."""


def read(rows: Sequence[Row], quirks: Set[str]) -> list[Item]:
    """Make an item of each row: `problem`, `answer`; `unique_id`, `subject` where they are there."""
    return [
        Item(
            id=str(row.fields.get("unique_id") or number),
            messages=boxed_prompt(text_field(row, "problem"), quirks),
            answer=text_field(row, "answer"),
            subset=str(row.fields.get("subject") or ""),
        )
        for number, row in enumerate(rows)
    ]


BENCHMARK = Benchmark(
    name="math500",
    title="MATH-500",
    group="in-domain",
    source=Source(
        local_names=("math500.jsonl",),
        hub_id="HuggingFaceH4/MATH-500",
        hub_files=("test.jsonl",),
    ),
    read=read,
    grader="math",
    preset=Preset(num_samples_per_item=3),
    quirks=MATH_QUIRKS,
    quirk_graders={"box_in_trace": "math_paper"},
    published=published.MATH500,
)
