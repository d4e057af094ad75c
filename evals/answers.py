"""What each answer of a result counts for, as a file: the records of a run can hold answers that no result rests on."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evals.aggregate import is_extracted, scores, unit_of
from evals.grade import GradedAnswer
from evals.plan import TaskPlan
from megatron_sft.files import write_text

FOLDER = "answers"


def write_answers(
    output: Path, plan: TaskPlan, graded: list[GradedAnswer], ratios: Mapping[str, tuple[str, str]]
) -> None:
    """Write OUTPUT/answers/<name>/<task>.jsonl, replacing it as a whole; docs/results.md has the fields."""
    path = plan.records_path(output, FOLDER)
    path.parent.mkdir(parents=True, exist_ok=True)
    unit = unit_of(plan.task, graded)
    lines = [json.dumps(answer_fields(answer, unit, ratios), ensure_ascii=False) + "\n" for answer in graded]
    write_text(path, "".join(lines))


def answer_fields(answer: GradedAnswer, unit: str, ratios: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
    """Return one line."""
    scored = scores([answer], unit)
    return {
        "item": answer.item,
        "sample": answer.sample,
        "score": scored[0][1] if scored else None,
        "num_tokens": answer.num_tokens,
        "cut_off": answer.finish_reason == "length",
        "extracted": is_extracted(answer),
        "ratios": {
            name: [answer.figures.get(top, 0.0), answer.figures[bottom]]
            for name, (top, bottom) in sorted(ratios.items())
            if bottom in answer.figures
        },
    }
