"""AlpacaEval 2.0: 805 instructions; a reward model or a judge scores the answers. The paper's score is no win rate."""

from collections.abc import Sequence, Set

from evals.items import Item
from evals.tasks import published
from evals.tasks.benchmark import Benchmark, Preset, Row, Source
from evals.tasks.prompts import user_turn
from evals.tasks.rows import text_field


def read(rows: Sequence[Row], quirks: Set[str]) -> list[Item]:
    """Make an item of each row: `instruction`, `dataset`; the reference answer `output` may be absent."""
    return [
        Item(
            id=str(number),
            messages=user_turn(text_field(row, "instruction")),
            answer={"instruction": text_field(row, "instruction"), "reference": row.fields.get("output")},
            subset=str(row.fields.get("dataset") or ""),
        )
        for number, row in enumerate(rows)
    ]


BENCHMARK = Benchmark(
    name="alpaca_eval",
    title="AlpacaEval 2.0",
    group="general",
    source=Source(
        local_names=("alpaca_eval.json", "alpaca_eval.jsonl"),
        hub_id="tatsu-lab/alpaca_eval",
        hub_files=("alpaca_eval.json",),
    ),
    read=read,
    grader="judge",
    rubric="alpaca_eval",
    preset=Preset(temperature=0.7, top_p=0.9, top_k=50, max_tokens=16_384, presence_penalty=0.1, frequency_penalty=0.1),
    published=published.ALPACA_EVAL_REWARD,
)
