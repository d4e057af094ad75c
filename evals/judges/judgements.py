"""The judge stage: has every question about every reply answered that is not on file, files it, and makes verdicts.

Like generations and grades, judgements are append-only records found by a key over all that decides their content.
"""

import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from evals.graders.verdict import Verdict
from evals.judges.judge import Judge
from evals.judges.reply import Reply
from evals.judges.rubric import JudgeQuestion, Rubric, failed
from evals.records import KeyedRecords
from megatron_sft.errors import DataError
from megatron_sft.files import write_text
from megatron_sft.generation.endpoint_protocol import ChatRequest, EndpointReport, RequestFailure, TextCompletion
from megatron_sft.metrics import read_jsonl


@dataclass(frozen=True, kw_only=True)
class AnswerToJudge:
    """One generated answer."""

    item: str
    sample: int
    messages: list[dict[str, str]]
    """The conversation up to the model's turn."""
    answer: Any
    """The item's, for the rubric."""
    reply: Reply | None
    """From `evals.judges.reply.reply_of`; None is not judged."""


@dataclass(frozen=True, kw_only=True)
class JudgeTask:
    """The answers of one model to one task."""

    rubric: Rubric
    answers: Sequence[AnswerToJudge]
    path: Path
    """File of judgements, see `judgements_path`; failures are beside it."""

    @property
    def failures_path(self) -> Path:
        """Return the file of what the last run could not have."""
        return self.path.with_suffix(".failures.jsonl")


@dataclass(frozen=True, kw_only=True)
class JudgeSummary:
    """What became of the questions of a task."""

    num_questions: int
    num_on_file: int
    """Before."""
    num_failed: int
    """Tried again by the next run."""
    num_unparsed: int
    """On file, without a value."""
    num_no_reply: int
    """Answers that were not judged."""


@dataclass(frozen=True, kw_only=True)
class _Question:
    """One question about one answer."""

    key: str
    about: AnswerToJudge
    question: JudgeQuestion


def judgements_path(output: Path, judge: Judge, model_name: str, task: str) -> Path:
    """Return the file of judgements."""
    return output / "judgements" / judge.name / model_name / f"{task}.jsonl"


def judge_answers(judge: Judge, tasks: Sequence[JudgeTask]) -> list[JudgeSummary]:
    """Have the missing questions of all tasks answered, by one engine where the judge is a model folder.

    A question that occurs several times, as about equal replies to an item, is asked once. Records are documented in
    docs/judges.md. Whatever was answered is on file when this raises.

    Raises:
        DataError: when an item lacks what the rubric compares with.
        IncompleteError: when a server answers nothing.
        EnvironmentProblem: when the judge's engine fails.
    """
    stores = [KeyedRecords(task.path) for task in tasks]
    asked = [list(_questions(judge, task)) for task in tasks]
    missing: dict[str, dict[int, _Question]] = {}
    for number, (questions, store) in enumerate(zip(asked, stores, strict=True)):
        for question in questions:
            if question.key not in store:
                missing.setdefault(question.key, {}).setdefault(number, question)
    num_on_file = [sum(question.key in store for question in qs) for qs, store in zip(asked, stores, strict=True)]
    report = EndpointReport()
    bar = tqdm(total=len(missing), unit="judgements", disable=not sys.stderr.isatty())
    try:
        for completions in judge.ask(_requests(judge, missing), report) if missing else ():
            for completion in completions:
                for number, question in missing[completion.key].items():
                    record = record_of(judge, tasks[number].rubric, question, completion, report.versions)
                    stores[number].append(record)
            bar.update(len(completions))
    finally:
        bar.close()
        for store in stores:
            store.close()
        _file_failures(tasks, missing, report.failures)
    return [
        _summary(judge_task, questions, store, before)
        for judge_task, questions, store, before in zip(tasks, asked, stores, num_on_file, strict=True)
    ]


def verdicts(judge: Judge, task: JudgeTask) -> list[Verdict]:
    """Return the verdict on each answer of a task from the judgements on file; starts and asks nothing.

    Judges' answers are parsed again, so that a corrected parser needs no new answers.

    Raises:
        DataError: when judgements are missing that have not failed, saying how many.
    """
    store = KeyedRecords(task.path)
    tried = {record["key"] for record in read_jsonl(task.failures_path)} if task.failures_path.exists() else set()
    found: list[Verdict] = []
    num_missing = 0
    for about in task.answers:
        if about.reply is None:
            found.append(task.rubric.no_reply())
            continue
        questions = list(_questions_about(judge, task.rubric, about))
        absent = [question.key for question in questions if question.key not in store]
        num_missing += sum(key not in tried for key in absent)
        verdict = failed() if absent else task.rubric.verdict(_values(task.rubric, store, questions))
        found.append(replace(verdict, figures={**verdict.figures, **about.reply.figures()}))
    if num_missing:
        raise DataError(
            f"{task.path}: {num_missing} judgements of {judge.name} by {task.rubric.name} are missing for these "
            "options: run the judge stage"
        )
    return found


def parsed_values(judge: Judge, task: JudgeTask) -> dict[str, Any]:
    """Return the values on file by `ITEM/SAMPLE/QUESTION`, without those that could not be parsed."""
    store = KeyedRecords(task.path)
    return {
        f"{question.about.item}/{question.about.sample}/{name}": value
        for question in _questions(judge, task)
        if question.key in store
        for name, value in _values(task.rubric, store, [question]).items()
    }


def record_of(
    judge: Judge, rubric: Rubric, question: _Question, completion: TextCompletion, versions: dict[str, str]
) -> dict[str, Any]:
    """Return the record to file."""
    reply = question.about.reply
    assert reply is not None
    record = {
        "key": question.key,
        "item": question.about.item,
        "sample": question.about.sample,
        "rubric": rubric.name,
        "question": question.question.id,
        "judge": judge.identity,
        "sampling": judge.sampling,
        "reply_chars": len(reply.text),
        "reply_truncated": reply.truncated,
        "reply_clipped_chars": reply.num_clipped_chars,
        "finish_reason": completion.finish_reason,
        "num_tokens": completion.num_tokens,
        "text": completion.text,
        "engine": versions,
    }
    return record | {"value": _value(rubric, record)}


def _requests(judge: Judge, missing: dict[str, dict[int, _Question]]) -> list[ChatRequest]:
    return [
        ChatRequest(
            key=key,
            messages=next(iter(places.values())).question.messages,
            # A reward is not sampled.
            max_tokens=judge.sampling.get("max_tokens", 1),
            temperature=judge.sampling.get("temperature", 0.0),
        )
        for key, places in missing.items()
    ]


def _questions(judge: Judge, task: JudgeTask) -> Iterator[_Question]:
    for about in task.answers:
        yield from _questions_about(judge, task.rubric, about)


def _questions_about(judge: Judge, rubric: Rubric, about: AnswerToJudge) -> Iterator[_Question]:
    """Yield the questions about an answer with their keys; none where there is no reply."""
    if about.reply is None:
        return
    try:
        questions = rubric.questions(about.answer, about.messages, about.reply)
    except DataError as error:
        raise DataError(f"item {about.item}: {error}") from error
    for question in questions:
        content = {
            # They hold the request and the reply.
            "messages": question.messages,
            "judge": judge.identity,
            "sampling": judge.sampling,
            "rubric": rubric.name,
            "question": question.id,
        }
        key = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        yield _Question(key=key, about=about, question=question)


def _values(rubric: Rubric, store: KeyedRecords, questions: Sequence[_Question]) -> dict[str, Any]:
    values = {question.question.id: _value(rubric, store[question.key]) for question in questions}
    return {name: value for name, value in values.items() if value is not None}


def _value(rubric: Rubric, record: dict[str, Any]) -> Any:
    """Return what a judge's answer states; one that was cut off states nothing, whatever its last line looks like."""
    return None if record["finish_reason"] == "length" else rubric.parse(record["question"], record["text"])


def _file_failures(
    tasks: Sequence[JudgeTask], missing: dict[str, dict[int, _Question]], failures: Sequence[RequestFailure]
) -> None:
    """Replace each task's file of failures by this run's; there is none where nothing failed."""
    for number, task in enumerate(tasks):
        lines = [
            json.dumps(
                {
                    "key": failure.key,
                    "item": place.about.item,
                    "sample": place.about.sample,
                    "question": place.question.id,
                    "reason": failure.reason,
                    "detail": failure.detail,
                },
                ensure_ascii=False,
            )
            for failure in failures
            if (place := missing[failure.key].get(number)) is not None
        ]
        if lines:
            task.failures_path.parent.mkdir(parents=True, exist_ok=True)
            write_text(task.failures_path, "".join(f"{line}\n" for line in lines))
        else:
            task.failures_path.unlink(missing_ok=True)


def _summary(task: JudgeTask, questions: list[_Question], store: KeyedRecords, num_on_file: int) -> JudgeSummary:
    on_file = [question for question in questions if question.key in store]
    return JudgeSummary(
        num_questions=len(questions),
        num_on_file=num_on_file,
        num_failed=len(questions) - len(on_file),
        num_unparsed=sum(_value(task.rubric, store[question.key]) is None for question in on_file),
        num_no_reply=sum(about.reply is None for about in task.answers),
    )
