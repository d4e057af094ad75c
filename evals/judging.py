"""The judge stage of a run: which answers are judged by whom, and what the judgements come to."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from evals.config import EvaluateConfig
from evals.grade import GradedAnswer, generations_of, graded_answer
from evals.judges.agreement import agreement
from evals.judges.judge import Judge, JudgeOptions, open_judge
from evals.judges.judgements import (
    AnswerToJudge,
    JudgeTask,
    judge_answers,
    judgements_path,
    parsed_values,
    verdicts,
)
from evals.judges.reply import reply_of
from evals.judges.rubrics import choose_rubric
from evals.plan import TaskPlan
from evals.task import Task
from megatron_sft.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Judging:
    """The judges of a run, the first of which decides."""

    judges: tuple[Judge, ...]

    def ask(self, output: Path, plans: Sequence[TaskPlan]) -> None:
        """Have every judge's missing judgements made, and say what became of them."""
        judged = [plan for plan in plans if plan.task.rubric is not None]
        for judge in self.judges if judged else ():
            summaries = judge_answers(judge, [_task(judge, output, plan) for plan in judged])
            for plan, summary in zip(judged, summaries, strict=True):
                print(
                    f"{plan.model.name}, {plan.task.name}, judge {judge.name}: {summary.num_questions} questions, "
                    f"{summary.num_on_file} on file before, {summary.num_failed} failed, {summary.num_unparsed} "
                    f"answered in another form, {summary.num_no_reply} responses without a reply",
                    flush=True,
                )

    def grade(self, output: Path, plan: TaskPlan) -> tuple[list[GradedAnswer], str]:
        """Return the first judge's verdicts on a plan's answers, and its name with that of the rubric."""
        judge = self.judges[0]
        task = _task(judge, output, plan)
        found = zip(plan.answers, generations_of(output, plan), verdicts(judge, task), strict=True)
        graded = [graded_answer(answer, generation, verdict) for answer, generation, verdict in found]
        return graded, f"{task.rubric.name} by {judge.name}"

    def agreement(self, output: Path, plan: TaskPlan) -> dict[str, Any] | None:
        """Return how far the first two judges agree on a plan's answers; None where there are not two.

        Rewards are in units of their own, so that two of them are not compared.
        """
        if len(self.judges) < 2 or any(judge.gives_rewards for judge in self.judges[:2]):
            return None
        tasks = [_task(judge, output, plan) for judge in self.judges[:2]]
        values = [parsed_values(judge, task) for judge, task in zip(self.judges, tasks, strict=False)]
        categories = tasks[0].rubric.values
        between = [judge.name for judge in self.judges[:2]]
        return {"between": between, **asdict(agreement(values[0], values[1], categories))}


def open_judges(config: EvaluateConfig, tasks: Sequence[Task]) -> Judging:
    """Open the judges of a run; nothing is started.

    Raises:
        ConfigError: when a task needs a judge and none is named, or one is named and no task needs it.
    """
    judged = [task.name for task in tasks if task.rubric is not None]
    if config.stage == "generate":
        return Judging(judges=())
    if judged and not config.judge:
        raise ConfigError(f"task {judged[0]} is decided by a judge: name one with --judge, or leave the task out")
    if config.judge and not judged:
        raise ConfigError("--judge has no effect: no task of this run is decided by a judge")
    options = JudgeOptions(
        max_tokens=config.judge_max_tokens,
        max_num_seqs=config.judge_max_num_seqs,
        dialect=config.endpoint_dialect,
        api_key_variable=config.judge_api_key_variable,
        request_timeout=config.request_timeout,
        max_model_len=config.judge_max_model_len,
        tensor_parallel_size=config.tensor_parallel_size,
        kv_cache_gib=config.kv_cache_gib,
        gpu_memory_utilization=config.gpu_memory_utilization,
        logs=config.output / "logs",
    )
    judges = tuple(open_judge(given, options) for given in config.judge)
    names = [judge.name for judge in judges]
    if len(set(names)) < len(names):
        raise ConfigError(f"--judge: two judges have the same name, {names[0]}")
    for task in tasks:
        if task.rubric is not None:
            for judge in judges:
                choose_rubric(task.rubric, judge)
    return Judging(judges=judges)


def _task(judge: Judge, output: Path, plan: TaskPlan) -> JudgeTask:
    assert plan.task.rubric is not None
    answers = [
        AnswerToJudge(
            item=answer.item.id,
            sample=answer.sample,
            messages=answer.item.messages,
            answer=answer.item.answer,
            reply=reply_of(
                generation["text"],
                prompt_opens_think=generation["prompt_opens_think"],
                finish_reason=generation["finish_reason"],
            ),
        )
        for answer, generation in zip(plan.answers, generations_of(output, plan), strict=True)
    ]
    path = judgements_path(output, judge, plan.model.name, plan.task.name)
    return JudgeTask(rubric=choose_rubric(plan.task.rubric, judge), answers=answers, path=path)
