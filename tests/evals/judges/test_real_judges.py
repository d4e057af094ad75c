"""A small real model as judge: behind vLLM's own server, and in an engine of this program."""

from pathlib import Path

import pytest

from evals.judges.harmfulness import HarmfulnessRubric
from evals.judges.judge import JudgeOptions, open_judge
from evals.judges.judgements import AnswerToJudge, JudgeTask, judge_answers, judgements_path, parsed_values, verdicts
from evals.judges.reply import Reply
from evals.judges.truthfulqa import TruthfulQaRubric
from tests.evals.judges.conftest import answer_to
from tests.vllm_server import VllmServer

pytest.importorskip("httpx", reason="httpx is not installed")

REPLIES = ("Take flour, eggs and sugar, and bake for an hour.", "I cannot help with cakes.", "Score: 1", None)


def tasks_of(output: Path, judge_name: str) -> list[JudgeTask]:
    """Four answers to cake questions, two to a question of fact."""
    cakes = [answer_to(str(number), reply) for number, reply in enumerate(REPLIES)]
    answer = {"question": "What do cats eat?", "correct": ["Meat"], "incorrect": ["The moon"]}
    facts = [
        AnswerToJudge(
            item=str(number),
            sample=0,
            messages=[{"role": "user", "content": "Q: What do cats eat?"}],
            answer=answer,
            reply=Reply(text=text, truncated=False),
        )
        for number, text in enumerate(("Cats eat meat.", "Cats eat the moon."))
    ]
    folder = output / "judgements" / judge_name / "step-1"
    return [
        JudgeTask(rubric=HarmfulnessRubric(), answers=cakes, path=folder / "cakes.jsonl"),
        JudgeTask(rubric=TruthfulQaRubric(), answers=facts, path=folder / "facts.jsonl"),
    ]


@pytest.mark.vllm
@pytest.mark.slow
def test_a_served_judge(smollm2: Path, tmp_path: Path) -> None:
    pytest.importorskip("vllm", reason="vLLM is not installed")
    server = VllmServer(smollm2, tmp_path / "server", name="judge", max_model_len=2048)
    options = JudgeOptions(max_tokens=200, max_num_seqs=4, request_timeout=300)
    judge = open_judge(f"judge@{server.url}", options)
    tasks = tasks_of(tmp_path, judge.name)
    assert tasks[0].path == judgements_path(tmp_path, judge, "step-1", "cakes")
    server.start()
    try:
        summaries = judge_answers(judge, tasks)
    finally:
        server.kill()
    assert [summary.num_questions for summary in summaries] == [3, 4]
    assert [summary.num_failed for summary in summaries] == [0, 0]
    found = [verdict for task in tasks for verdict in verdicts(judge, task)]
    parsed = [value for task in tasks for value in parsed_values(judge, task).values()]
    # A model of this size often misses the form: what it misses is undecided, and everything is accounted for.
    assert len(parsed) + sum(summary.num_unparsed for summary in summaries) == 7
    assert found[3].reason == "no_reply"
    assert {verdict.reason for verdict in found if verdict.correct is None} <= {"undecided: judge_unparsed"}
    print(f"{len(parsed)} of 7 answers have the form: {parsed}")
    # The files are enough from here on.
    assert [summary.num_on_file for summary in judge_answers(judge, tasks)] == [3, 4]


@pytest.mark.vllm
@pytest.mark.slow
def test_a_judge_in_process(smollm2: Path, tmp_path: Path) -> None:
    pytest.importorskip("vllm", reason="vLLM is not installed")
    options = JudgeOptions(max_tokens=200, max_num_seqs=4, max_model_len=2048, logs=tmp_path / "logs")
    judge = open_judge(str(smollm2), options)
    tasks = tasks_of(tmp_path, judge.name)
    long = AnswerToJudge(
        item="long", sample=0, messages=[], answer={"request": "x"}, reply=Reply(text="cake " * 3000, truncated=False)
    )
    tasks[0] = JudgeTask(rubric=tasks[0].rubric, answers=[*tasks[0].answers, long], path=tasks[0].path)
    summaries = judge_answers(judge, tasks)
    assert [(summary.num_questions, summary.num_failed) for summary in summaries] == [(4, 1), (4, 0)]
    assert "prompt_too_long" in tasks[0].failures_path.read_text()
    assert verdicts(judge, tasks[0])[-1].reason == "undecided: judge_failed"
    assert [summary.num_on_file for summary in judge_answers(judge, tasks)] == [3, 4]
    assert (tmp_path / "logs" / "judge-smollm2.log").exists()
