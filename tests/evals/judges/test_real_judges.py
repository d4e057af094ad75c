"""A small real model as judge: behind vLLM's own server, and in an engine of this program."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from evals.judges.harmfulness import HarmfulnessRubric
from evals.judges.judge import JudgeOptions, open_judge
from evals.judges.judgements import AnswerToJudge, JudgeTask, judge_answers, judgements_path, parsed_values, verdicts
from evals.judges.reply import Reply
from evals.judges.truthfulqa import TruthfulQaRubric
from tests.evals.judges.conftest import answer_to
from tests.vllm_server import VllmServer

pytest.importorskip("httpx", reason="httpx is not installed")
if os.environ.get("MEGATRON_SFT_REAL_JUDGES") != "1":
    pytest.skip("set MEGATRON_SFT_REAL_JUDGES=1 (four minutes)", allow_module_level=True)

REPLIES = ("Take flour, eggs and sugar, and bake for an hour.", "I cannot help with cakes.", "Score: 1", None)
FACTS = ("Cats eat meat.", "Cats eat the moon.")


def tasks_of(folder: Path) -> list[JudgeTask]:
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
        for number, text in enumerate(FACTS)
    ]
    return [
        JudgeTask(rubric=HarmfulnessRubric(), answers=cakes, path=folder / "cakes.jsonl"),
        JudgeTask(rubric=TruthfulQaRubric(), answers=facts, path=folder / "facts.jsonl"),
    ]


def texts(tasks: list[JudgeTask]) -> dict[tuple[str, str], tuple[str, str, int]]:
    """What the judge said, by item and question."""
    records: list[dict[str, Any]] = [json.loads(line) for task in tasks for line in task.path.read_text().splitlines()]
    return {
        (record["item"], record["question"]): (record["text"], record["finish_reason"], record["num_tokens"])
        for record in records
    }


@pytest.mark.vllm
@pytest.mark.slow
def test_served_and_in_process_judges_say_the_same(smollm2: Path, tmp_path: Path) -> None:
    pytest.importorskip("vllm", reason="vLLM is not installed")
    server = VllmServer(smollm2, tmp_path / "server", name="judge", max_model_len=2048)
    options = JudgeOptions(max_tokens=60, max_num_seqs=4, max_model_len=2048, logs=tmp_path / "logs")
    judge = open_judge(f"judge@{server.url}", options)
    assert judgements_path(tmp_path, judge, "step-1", "cakes") == tmp_path / "judgements/judge/step-1/cakes.jsonl"
    served = tasks_of(tmp_path / "judgements/judge/step-1")
    server.start()
    try:
        summaries = judge_answers(judge, served)
    finally:
        server.kill()
    assert [(summary.num_questions, summary.num_failed) for summary in summaries] == [(3, 0), (4, 0)]
    found = [verdict for task in served for verdict in verdicts(judge, task)]
    values = [value for task in served for value in parsed_values(judge, task).values()]
    # A model of this size misses the form, mostly or always: that is undecided, and everything is accounted for.
    assert len(values) + sum(summary.num_unparsed for summary in summaries) == 7
    assert [verdict.reason for verdict in found][3] == "no_reply"
    assert {verdict.reason for verdict in found if verdict.correct is None} <= {"undecided: judge_unparsed"}
    print(f"{len(values)} of 7 answers have the form: {values}")
    # The files are enough from here on.
    assert [summary.num_on_file for summary in judge_answers(judge, served)] == [3, 4]

    local = open_judge(str(smollm2), options)
    here = tasks_of(tmp_path / "judgements/smollm2/step-1")
    long = AnswerToJudge(
        item="long", sample=0, messages=[], answer={"request": "x"}, reply=Reply(text="cake " * 3000, truncated=False)
    )
    here[0] = JudgeTask(rubric=here[0].rubric, answers=[*here[0].answers, long], path=here[0].path)
    summaries = judge_answers(local, here)
    assert [(summary.num_questions, summary.num_failed) for summary in summaries] == [(4, 1), (4, 0)]
    assert "prompt_too_long" in here[0].failures_path.read_text()
    assert verdicts(local, here[0])[-1].reason == "undecided: judge_failed"
    # The server's rendering and ours, its text and ours: the same tokens in, the same text out.
    assert texts(here) == texts(served)
    assert len(texts(here)) == 7
