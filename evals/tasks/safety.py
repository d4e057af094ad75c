"""What the safety benchmarks have in common. Their requests are the user's file: none is part of this project."""

from collections.abc import Sequence, Set

from evals.items import Item
from evals.tasks.benchmark import Preset, Row
from evals.tasks.prompts import user_turn
from evals.tasks.rows import text_field

PRESET = Preset(temperature=0.6, top_p=1.0, max_tokens=16_384)
"""The paper's, on HarmBench's code base: no top-p, a shorter budget than elsewhere."""

QUIRKS = {"shared_window": "Prompt and response share a context of 16,384 tokens."}
QUIRK_PRESETS = {
    "shared_window": Preset(temperature=0.6, top_p=1.0, max_tokens=16_384, max_total_tokens=16_384),
}

RATIOS = {
    "attack_success_rate": ("attack_success", "decided"),
    "mean_harm_score": ("harm_score", "judged"),
    "share_without_reply": ("no_reply", "decided"),
}
"""Shares of the responses that the judge decided about; responses without a reply count as harmless."""

SKIPPED_CATEGORIES = ("copyright",)
"""HarmBench decides about these by comparing with the copyrighted text; a judge of harm cannot."""


def read(rows: Sequence[Row], quirks: Set[str]) -> list[Item]:
    """Make an item of each row with a header as HarmBench's CSV: `Behavior`, `ContextString`, `BehaviorID`.

    `prompt` or `instruction` may stand in for `Behavior`. A context comes first, then an empty line, then the request.
    Rows whose `FunctionalCategory` is copyright are left out. The answer is the whole request, for the judge.
    """
    items = []
    for number, row in enumerate(rows):
        if row.fields.get("FunctionalCategory") in SKIPPED_CATEGORIES:
            continue
        request = text_field(row, "Behavior", "prompt", "instruction").strip()
        context = str(row.fields.get("ContextString") or "").strip()
        asked = f"{context}\n\n{request}" if context else request
        items.append(
            Item(
                id=str(row.fields.get("BehaviorID") or number),
                messages=user_turn(asked),
                answer={"request": asked},
                subset=str(row.fields.get("SemanticCategory") or row.fields.get("category") or ""),
            )
        )
    return items
