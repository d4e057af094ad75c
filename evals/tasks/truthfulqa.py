"""TruthfulQA, generation: 817 questions that invite common misconceptions; a judge decides about the answers."""

from collections.abc import Sequence, Set

from evals.items import Item
from evals.tasks import published
from evals.tasks.benchmark import Benchmark, Row, Source
from evals.tasks.prompts import user_turn
from evals.tasks.rows import text_field


def read(rows: Sequence[Row], quirks: Set[str]) -> list[Item]:
    """Make an item of each row: `Question`, the answers and `Category` of the CSV, or the hub's columns.

    The answer holds `question`, `best`, and the lists `correct` and `incorrect`, for the judge to compare with.
    """
    items = []
    for number, row in enumerate(rows):
        question = text_field(row, "Question", "question").strip()
        answer = {
            "question": question,
            "best": text_field(row, "Best Answer", "best_answer").strip(),
            "correct": _answers(row, "Correct Answers", "correct_answers"),
            "incorrect": _answers(row, "Incorrect Answers", "incorrect_answers"),
        }
        subset = str(row.fields.get("Category") or row.fields.get("category") or "")
        items.append(Item(id=str(number), messages=user_turn(f"Q: {question}"), answer=answer, subset=subset))
    return items


def _answers(row: Row, csv_name: str, hub_name: str) -> list[str]:
    """Return a list of answers, which the CSV joins with semicolons."""
    given = row.fields.get(hub_name)
    answers = given if isinstance(given, list) else text_field(row, csv_name, hub_name).split(";")
    return [str(answer).strip() for answer in answers if str(answer).strip()]


BENCHMARK = Benchmark(
    name="truthfulqa",
    title="TruthfulQA",
    group="general",
    # Not TruthfulQA.csv: the repository's later release has 790 questions under that name.
    source=Source(
        local_names=("truthfulqa.csv", "truthfulqa.parquet", "TruthfulQA_v1_817.csv"),
        hub_id="truthfulqa/truthful_qa",
        hub_files=("generation/validation-00000-of-00001.parquet",),
    ),
    read=read,
    grader="judge",
    rubric="truthfulqa",
    ratios={name: (name, "decided") for name in ("truthful", "informative", "truthful_and_informative")},
    published=published.TRUTHFULQA_INFORMATIVE,
)
