"""What the years of AIME have in common."""

from collections.abc import Sequence, Set

from evals.items import Item
from evals.tasks.benchmark import Row
from evals.tasks.prompts import boxed_prompt
from evals.tasks.rows import text_field
from megatron_sft.data.tasks.problem import SUFFIX
from megatron_sft.errors import DataError


def read(rows: Sequence[Row], quirks: Set[str]) -> list[Item]:
    """Make an item of each row: `problem`, `question` or `prompt`, and a whole number as `answer`.

    Files of prompts end each with the request for a box; it is taken off and put on again as training has it. Leading
    zeros of an answer (AIME writes three digits) mean nothing.
    """
    items = []
    for number, row in enumerate(rows):
        problem = text_field(row, "problem", "question", "prompt").strip().removesuffix(SUFFIX).rstrip()
        answer = text_field(row, "answer").strip()
        if not (answer.isascii() and answer.isdigit()):
            raise DataError(f"{row.where}: `answer` must be a whole number, found {answer[:80]!r}")
        identity = row.fields.get("id", number)
        items.append(Item(id=str(identity), messages=boxed_prompt(problem, quirks), answer=str(int(answer))))
    return items
