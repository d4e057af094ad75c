"""IFEval: 541 prompts with instructions that a program can check."""

from collections.abc import Sequence, Set
from typing import Any

from evals.graders.ifeval.instructions import ARGUMENTS
from evals.items import Item
from evals.tasks import published
from evals.tasks.benchmark import Benchmark, Row, Source
from evals.tasks.prompts import user_turn
from evals.tasks.rows import text_field
from megatron_sft.errors import DataError


def read(rows: Sequence[Row], quirks: Set[str]) -> list[Item]:
    """Make an item of each row: `key`, `prompt`, `instruction_id_list`, `kwargs`; null arguments are absent."""
    items = []
    for row in rows:
        prompt = text_field(row, "prompt")
        asked = f"Question: {prompt}\nAnswer:" if "question_answer" in quirks else prompt
        answer = {"instructions": _instructions(row)}
        items.append(Item(id=text_field(row, "key"), messages=user_turn(asked), answer=answer))
    return items


def _instructions(row: Row) -> list[dict[str, Any]]:
    names, arguments = row.fields.get("instruction_id_list"), row.fields.get("kwargs")
    if not isinstance(names, list) or not isinstance(arguments, list) or not names or len(names) != len(arguments):
        raise DataError(f"{row.where}: expected `instruction_id_list` and `kwargs`, lists of the same length")
    found = []
    for name, given in zip(names, arguments, strict=True):
        if name not in ARGUMENTS:
            raise DataError(f"{row.where}: unknown instruction {name!r}; known are {', '.join(ARGUMENTS)}")
        kept = {key: value for key, value in (given or {}).items() if value is not None}
        missing = [key for key in ARGUMENTS[name] if key not in kept]
        if missing:
            raise DataError(f"{row.where}: the instruction {name} needs {missing[0]!r} in `kwargs`, found {list(kept)}")
        found.append({"id": name, "arguments": kept})
    return found


BENCHMARK = Benchmark(
    name="ifeval",
    title="IFEval",
    group="general",
    source=Source(
        local_names=("ifeval.jsonl", "ifeval_input_data.jsonl"),
        hub_id="google/IFEval",
        hub_files=("ifeval_input_data.jsonl",),
    ),
    read=read,
    grader="ifeval",
    ratios={
        "prompt_loose": ("prompt_loose", "num_prompts"),
        "instruction_strict": ("num_followed_strict", "num_instructions"),
        "instruction_loose": ("num_followed_loose", "num_instructions"),
    },
    quirks={"question_answer": "Each prompt stands between 'Question: ' and a line 'Answer:'."},
    published=published.IFEVAL,
)
