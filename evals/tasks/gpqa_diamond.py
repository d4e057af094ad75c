"""GPQA-Diamond: 198 questions of graduate level in physics, chemistry and biology, four options each.

Its authors ask that the questions never appear in plain text on the web: users bring the file, and raw generations
should not be published.
"""

import hashlib
from collections.abc import Sequence, Set

from evals.items import Item
from evals.tasks import published
from evals.tasks.benchmark import Benchmark, Preset, Row, Source
from evals.tasks.prompts import LETTERS, choice_prompt
from evals.tasks.rows import text_field

ORDER_SEED = 42
RIGHT = "Correct Answer"
WRONG = ("Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3")


def option_order(identity: str, num_options: int, seed: int = ORDER_SEED) -> list[int]:
    """Return in which order an item's options are shown: by the sha256 of seed, item and option's number.

    It depends on nothing else: not on Python's version or hash seed, nor on the other items.
    """
    return sorted(
        range(num_options),
        key=lambda option: hashlib.sha256(f"gpqa_diamond:{seed}:{identity}:{option}".encode()).hexdigest(),
    )


def read(rows: Sequence[Row], quirks: Set[str]) -> list[Item]:
    """Make an item of each row: `Question`, the four answers, `Record ID`, `High-level domain` of the published CSV."""
    items = []
    for number, row in enumerate(rows):
        identity = str(row.fields.get("Record ID") or number)
        options = [text_field(row, name).strip() for name in (RIGHT, *WRONG)]
        order = option_order(identity, len(options))
        prompt = choice_prompt(text_field(row, "Question").strip(), [options[option] for option in order])
        answer = {"letter": LETTERS[order.index(0)], "num_options": len(options)}
        subset = str(row.fields.get("High-level domain") or "")
        items.append(Item(id=identity, messages=prompt, answer=answer, subset=subset))
    return items


BENCHMARK = Benchmark(
    name="gpqa_diamond",
    title="GPQA-Diamond",
    group="out-of-domain",
    source=Source(
        local_names=("gpqa_diamond.csv",), hub_id="Idavidrein/gpqa", hub_files=("gpqa_diamond.csv",), gated=True
    ),
    read=read,
    grader="choice",
    preset=Preset(num_samples_per_item=3),
    quirks={"loose_letters": "A box must hold the bare letter (\\text{A} fails); without a box loose sentences count."},
    quirk_graders={"loose_letters": "choice_gpqa_paper"},
    published=published.GPQA_DIAMOND,
)
