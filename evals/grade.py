"""The grade stage: decides about every generated answer, without an engine."""

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
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


def generations_of(output: Path, plan: TaskPlan) -> list[dict[str, Any]]:
    """Return the generations of a plan's answers, in its order.

    Raises:
        DataError: when some are missing, saying how many.
    """
    generations = KeyedRecords(plan.records_path(output, "generations"))
    missing = [answer for answer in plan.answers if answer.key not in generations]
    if missing:
        raise DataError(
            f"{generations.path}: {len(missing)} of {len(plan.answers)} answers are missing for these options "
            f"(the first: {missing[0].item.id}, sample {missing[0].sample}): run the stage generate"
        )
    return [generations[answer.key] for answer in plan.answers]


def grade(output: Path, plan: TaskPlan, grader: Grader, num_threads: int = 1) -> list[GradedAnswer]:
    """Grade a plan's answers in its order; grades on file of the same grader, answer and item are reused.

    With several threads the grader's `grade` is called by each of them.

    Raises:
        DataError: when answers are missing, saying how many.
    """
    found = generations_of(output, plan)
    keys = [_key(answer, generation, grader) for answer, generation in zip(plan.answers, found, strict=True)]
    grades = KeyedRecords(plan.records_path(output, "grades"))
    todo = [number for number, key in enumerate(keys) if key not in grades]

    def verdict_on(number: int) -> Verdict:
        return decide(found[number], plan.answers[number].item.answer, grader)

    try:
        with ThreadPoolExecutor(max_workers=num_threads) as executor:
            for number, verdict in zip(todo, executor.map(verdict_on, todo), strict=True):
                if keys[number] not in grades:
                    grades.append(_record(keys[number], plan.answers[number], grader, verdict))
    finally:
        grades.close()
    return [
        graded_answer(answer, generation, _verdict(grades[key]))
        for answer, generation, key in zip(plan.answers, found, keys, strict=True)
    ]


def graded_answer(answer: PlannedAnswer, generation: dict[str, Any], verdict: Verdict) -> GradedAnswer:
    """Put an answer and the verdict on it together."""
    return GradedAnswer(
        item=answer.item.id,
        sample=answer.sample,
        subset=answer.item.subset,
        correct=verdict.correct,
        reason=verdict.reason,
        num_tokens=generation["num_tokens"],
        finish_reason=generation["finish_reason"],
        engine=generation["engine"],
        figures=verdict.figures,
        text=generation["text"],
        token_ids=generation["token_ids"],
    )


def _key(answer: PlannedAnswer, generation: dict[str, Any], grader: Grader) -> str:
    content = json.dumps([answer.key, generation["text"], grader.name, answer.item.answer], sort_keys=True)
    return hashlib.sha256(content.encode("utf-8", errors="surrogatepass")).hexdigest()


def _record(key: str, answer: PlannedAnswer, grader: Grader, verdict: Verdict) -> dict[str, Any]:
    return {
        "key": key,
        "generation": answer.key,
        "item": answer.item.id,
        "sample": answer.sample,
        "grader": grader.name,
        "correct": verdict.correct,
        "reason": verdict.reason,
        "figures": dict(verdict.figures),
    }


def _verdict(record: dict[str, Any]) -> Verdict:
    return Verdict(correct=record["correct"], reason=record["reason"], figures=record.get("figures", {}))


def decide(generation: dict[str, Any], answer: Any, grader: Grader) -> Verdict:
    """Grade one generation: an answer cut off, or one that never leaves its think block, is wrong whatever it holds.

    Such ones have the figures of an empty answer, so that none is missing from a ratio.
    """
    final = final_part(generation["text"], prompt_opens_think=generation["prompt_opens_think"])
    if grader.reads_trace:
        return grader.grade(generation["text"], answer)
    if generation["finish_reason"] == "length":
        return Verdict(correct=False, reason="cut_off", figures=grader.grade("", answer).figures)
    if final is None:
        return Verdict(correct=False, reason="think_not_closed", figures=grader.grade("", answer).figures)
    return grader.grade(final, answer)
