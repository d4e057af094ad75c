"""GSM8K: grade-school word problems with whole numbers as answers. Not among the paper's benchmarks."""

from collections.abc import Sequence, Set

from evals.items import Item
from evals.tasks.benchmark import Benchmark, Preset, Row, Source
from evals.tasks.math500 import MATH_QUIRKS
from evals.tasks.prompts import boxed_prompt
from evals.tasks.rows import text_field
from megatron_sft.errors import DataError

MARK = "####"


def read(rows: Sequence[Row], quirks: Set[str]) -> list[Item]:
    """Make an item of each row: `question`; the answer stands behind `####` at the end of `answer`."""
    items = []
    for number, row in enumerate(rows):
        _, mark, answer = text_field(row, "answer").rpartition(MARK)
        if not mark or not answer.strip():
            raise DataError(f"{row.where}: expected `answer` to end with {MARK!r} and a number")
        question = boxed_prompt(text_field(row, "question"), quirks)
        items.append(Item(id=str(number), messages=question, answer=answer.strip().replace(",", "")))
    return items


BENCHMARK = Benchmark(
    name="gsm8k",
    title="GSM8K",
    group="in-domain",
    source=Source(
        local_names=("gsm8k.jsonl", "gsm8k_test.jsonl", "gsm8k.parquet"),
        hub_id="openai/gsm8k",
        hub_files=("main/test-00000-of-00001.parquet",),
    ),
    read=read,
    grader="math",
    preset=Preset(num_samples_per_item=1),
    quirks=MATH_QUIRKS,
    quirk_graders={"box_in_trace": "math_paper"},
)
