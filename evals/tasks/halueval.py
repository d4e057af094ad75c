"""HaluEval: is this answer hallucinated? Three parts of 10,000 rows, and the general part of 4,507.

A row of the three parts holds a right and a hallucinated answer; one of them is shown, chosen by the hash of part and
row number. The paper reports the mean of the three accuracies, which `halueval` is, as its parts are equally large.
"""

import hashlib
from collections.abc import Callable, Sequence, Set

from evals.items import Item
from evals.tasks import published
from evals.tasks.benchmark import Benchmark, Row, Source
from evals.tasks.prompts import user_turn
from evals.tasks.rows import text_field
from megatron_sft.errors import DataError

SEED = 42
ORIGIN = "take it from the folder data of the repository RUCAIBox/HaluEval"
QUESTION = "Answer with your judgement at the end, as one word: Yes if it is hallucinated, No if it is not."


def shows_hallucination(part: str, number: int, seed: int = SEED) -> bool:
    """Decide whether a row's hallucinated answer is shown: the lowest bit of sha256("halueval:seed:part:number")."""
    return hashlib.sha256(f"halueval:{seed}:{part}:{number}".encode()).digest()[-1] % 2 == 1


def _answer(row: Row, part: str, number: int, shown: str, right: str, hallucinated: str) -> tuple[str, str]:
    """Return the text that is judged, and "Yes" if it is hallucinated, else "No".

    `shown` is the column of files in which the choice was made already, with `hallucination` beside it.
    """
    if "hallucination" in row.fields:
        verdict = text_field(row, "hallucination").strip().lower()
        if verdict not in ("yes", "no"):
            raise DataError(f"{row.where}: `hallucination` must be yes or no, found {verdict[:80]!r}")
        return text_field(row, shown), verdict.capitalize()
    if shows_hallucination(part, number):
        return text_field(row, hallucinated), "Yes"
    return text_field(row, right), "No"


def _qa(row: Row, number: int) -> tuple[str, str]:
    text, verdict = _answer(row, "qa", number, "answer", "right_answer", "hallucinated_answer")
    return (
        f"Knowledge: {text_field(row, 'knowledge')}\nQuestion: {text_field(row, 'question')}\nAnswer: {text}\n\n"
        "An answer is hallucinated if the knowledge contradicts it or does not support it, or if it misses the "
        f"question. Is this answer hallucinated? {QUESTION}"
    ), verdict


def _dialogue(row: Row, number: int) -> tuple[str, str]:
    text, verdict = _answer(row, "dialogue", number, "response", "right_response", "hallucinated_response")
    return (
        f"Knowledge: {text_field(row, 'knowledge')}\nDialogue: {text_field(row, 'dialogue_history')}\n"
        f"Response: {text}\n\nA response is hallucinated if it states what the knowledge contradicts or does not "
        f"support. Is this response hallucinated? {QUESTION}"
    ), verdict


def _summarization(row: Row, number: int) -> tuple[str, str]:
    text, verdict = _answer(row, "summarization", number, "summary", "right_summary", "hallucinated_summary")
    return (
        f"Document: {text_field(row, 'document')}\n\nSummary: {text}\n\nA summary is hallucinated if it states "
        f"what the document contradicts or does not support. Is this summary hallucinated? {QUESTION}"
    ), verdict


def _general(row: Row, number: int) -> tuple[str, str]:
    text, verdict = _answer(row, "general", number, "chatgpt_response", "", "")
    return (
        f"Request: {text_field(row, 'user_query')}\nResponse: {text}\n\nA response is hallucinated if it states "
        f"things that are false or cannot be verified. Is this response hallucinated? {QUESTION}"
    ), verdict


Part = Callable[[Row, int], tuple[str, str]]
PARTS: dict[str, tuple[str, Part]] = {
    "qa": ("question", _qa),
    "dialogue": ("dialogue_history", _dialogue),
    "summarization": ("document", _summarization),
    "general": ("user_query", _general),
}
"""Part -> a column that only its rows have, and what makes question and verdict of a row and its number."""


def read(rows: Sequence[Row], quirks: Set[str]) -> list[Item]:
    """Make an item of each row; its columns tell which part it belongs to. Rows are numbered within their part."""
    items = []
    counts = dict.fromkeys(PARTS, 0)
    for row in rows:
        part = next((name for name, (column, _) in PARTS.items() if column in row.fields), None)
        if part is None:
            raise DataError(f"{row.where}: no part of HaluEval has the fields {', '.join(map(str, row.fields))}")
        prompt, verdict = PARTS[part][1](row, counts[part])
        items.append(Item(id=f"{part}-{counts[part]}", messages=user_turn(prompt), answer=verdict, subset=part))
        counts[part] += 1
    return items


def _benchmark(name: str, title: str, source: Source, scores: dict[str, float] | None = None) -> Benchmark:
    return Benchmark(
        name=name, title=title, group="general", source=source, read=read, grader="yes_no", published=scores or {}
    )


BENCHMARKS = (
    _benchmark(
        "halueval",
        "HaluEval",
        Source(
            local_names=("qa_data.json", "dialogue_data.json", "summarization_data.json"), read_all=True, origin=ORIGIN
        ),
        published.HALUEVAL,
    ),
    *(
        _benchmark(f"halueval_{part}", f"HaluEval ({part})", Source(local_names=(f"{part}_data.json",), origin=ORIGIN))
        for part in ("qa", "dialogue", "summarization")
    ),
    _benchmark(
        "halueval_general",
        "HaluEval (general)",
        Source(local_names=("general_data.json", "halueval_general.json", "halueval_general.json.gz"), origin=ORIGIN),
    ),
)
