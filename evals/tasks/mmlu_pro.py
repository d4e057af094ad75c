"""MMLU-Pro: 12,032 questions in 14 subjects, 3 to 10 options each."""

from collections.abc import Sequence, Set

from evals.items import Item
from evals.tasks.benchmark import Benchmark, Preset, Row, Source
from evals.tasks.prompts import LETTERS, choice_prompt
from evals.tasks.rows import text_field
from megatron_sft.errors import DataError

QUIRKS = {
    "first_match": "The first letter behind 'answer is' or in a box counts, wherever in the response, trace included.",
    "subject_sampling": "Greedy: the subjects' own settings, which may have overruled the group's temperature.",
}
QUIRK_GRADERS = {"first_match": "choice_mmlu_pro_paper"}
QUIRK_PRESETS = {"subject_sampling": Preset(temperature=0.0, top_p=1.0)}


def read(rows: Sequence[Row], quirks: Set[str]) -> list[Item]:
    """Make an item of each row: `question_id`, `question`, `options`, `answer` (a letter), `category`."""
    return [_item(row) for row in rows]


def _item(row: Row) -> Item:
    options = row.fields.get("options")
    if not isinstance(options, list) or not 2 <= len(options) <= 10 or not all(isinstance(o, str) for o in options):
        raise DataError(f"{row.where}: `options` must be 2 to 10 strings, found {str(options)[:80]!r}")
    letter = text_field(row, "answer")
    if letter not in LETTERS[: len(options)] or len(letter) != 1:
        raise DataError(f"{row.where}: `answer` {letter[:80]!r} is no letter of its {len(options)} options")
    return Item(
        id=text_field(row, "question_id"),
        messages=choice_prompt(text_field(row, "question").strip(), options),
        answer={"letter": letter, "num_options": len(options)},
        subset=text_field(row, "category"),
    )


SOURCE = Source(
    local_names=("mmlu_pro.parquet", "mmlu_pro_test.parquet", "mmlu_pro.jsonl"),
    hub_id="TIGER-Lab/MMLU-Pro",
    hub_files=("data/test-00000-of-00001.parquet",),
)

BENCHMARK = Benchmark(
    name="mmlu_pro",
    title="MMLU-Pro",
    group="out-of-domain",
    source=SOURCE,
    read=read,
    grader="choice",
    quirks=QUIRKS,
    quirk_graders=QUIRK_GRADERS,
    quirk_presets=QUIRK_PRESETS,
)
