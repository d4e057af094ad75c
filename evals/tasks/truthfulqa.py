"""TruthfulQA, generation: 817 questions that invite common misconceptions; a judge decides about the answers."""

from collections.abc import Sequence, Set

from evals.items import Item
from evals.tasks import published
from evals.tasks.benchmark import Benchmark, Row, Source
from evals.tasks.prompts import user_turn
from evals.tasks.rows import text_field


def read(rows: Sequence[Row], quirks: Set[str]) -> list[Item]:
    """Make an item of each row of the published CSV: `Question`, the answers, `Category`.

    The answer holds `question`, `best`, and the lists `correct` and `incorrect`, for the judge to compare with.
    """
    items = []
    for number, row in enumerate(rows):
        question = text_field(row, "Question").strip()
        answer = {
            "question": question,
            "best": text_field(row, "Best Answer").strip(),
            "correct": _split(text_field(row, "Correct Answers")),
            "incorrect": _split(text_field(row, "Incorrect Answers")),
        }
        subset = str(row.fields.get("Category") or "")
        items.append(Item(id=str(number), messages=user_turn(f"Q: {question}"), answer=answer, subset=subset))
    return items


def _split(answers: str) -> list[str]:
    return [answer.strip() for answer in answers.split(";") if answer.strip()]


BENCHMARK = Benchmark(
    name="truthfulqa",
    title="TruthfulQA",
    group="general",
    source=Source(
        local_names=("TruthfulQA_v1_817.csv", "truthfulqa.csv", "TruthfulQA.csv"),
        origin="take TruthfulQA.csv (817 questions) from the folder data/v1 of the repository sylinrl/TruthfulQA",
    ),
    read=read,
    grader="judge",
    rubric="truthfulqa",
    published=published.TRUTHFULQA_INFORMATIVE,
)
