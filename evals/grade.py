"""The grade stage: decides about every generated answer, without an engine."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evals.graders.verdict import Grader, Verdict, final_part
from evals.plan import PlannedAnswer, TaskPlan
from evals.records import KeyedRecords
from megatron_sft.errors import DataError


@dataclass(frozen=True, kw_only=True)
class GradedAnswer:
    """One answer with its grade."""

    item: str
    sample: int
    subset: str = ""
    correct: bool | None
    reason: str
    num_tokens: int
    finish_reason: str
    engine: dict[str, str]
    figures: Mapping[str, float]
    text: str
    token_ids: list[int]
    """Empty where a server tells none."""


def grade(output: Path, plan: TaskPlan, grader: Grader) -> list[GradedAnswer]:
    """Grade a plan's answers in its order; grades on file of the same grader, answer and item are reused.

    Raises:
        DataError: when answers are missing, saying how many.
    """
    generations = KeyedRecords(plan.records_path(output, "generations"))
    missing = [answer for answer in plan.answers if answer.key not in generations]
    if missing:
        raise DataError(
            f"{generations.path}: {len(missing)} of {len(plan.answers)} answers are missing for these options "
            f"(the first: {missing[0].item.id}, sample {missing[0].sample}): run the stage generate"
        )
    grades = KeyedRecords(plan.records_path(output, "grades"))
    graded = [_grade_answer(answer, generations[answer.key], grades, grader) for answer in plan.answers]
    grades.close()
    return graded


def _grade_answer(
    answer: PlannedAnswer, generation: dict[str, Any], grades: KeyedRecords, grader: Grader
) -> GradedAnswer:
    content = json.dumps([answer.key, generation["text"], grader.name, answer.item.answer], sort_keys=True)
    key = hashlib.sha256(content.encode()).hexdigest()
    if key not in grades:
        verdict = decide(generation, answer.item.answer, grader)
        grades.append(
            {
                "key": key,
                "generation": answer.key,
                "item": answer.item.id,
                "sample": answer.sample,
                "grader": grader.name,
                "correct": verdict.correct,
                "reason": verdict.reason,
                "figures": dict(verdict.figures),
            }
        )
    record = grades[key]
    return GradedAnswer(
        item=answer.item.id,
        sample=answer.sample,
        subset=answer.item.subset,
        correct=record["correct"],
        reason=record["reason"],
        num_tokens=generation["num_tokens"],
        finish_reason=generation["finish_reason"],
        engine=generation["engine"],
        figures=record["figures"],
        text=generation["text"],
        token_ids=generation["token_ids"],
    )


def decide(generation: dict[str, Any], answer: Any, grader: Grader) -> Verdict:
    """Grade one generation: an answer cut off, or one that never leaves its think block, is wrong whatever it holds."""
    if generation["finish_reason"] == "length":
        return Verdict(correct=False, reason="cut_off")
    final = final_part(generation["text"], prompt_opens_think=generation["prompt_opens_think"])
    if final is None:
        return Verdict(correct=False, reason="think_not_closed")
    return grader.grade(generation["text"] if grader.reads_trace else final, answer)
