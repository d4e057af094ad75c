"""Reward models: what is asked of the server and filed, and a real one against transformers."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from evals.judges.judge import JudgeOptions, RewardJudge, endpoint_settings, open_judge
from evals.judges.judgements import JudgeTask, judge_answers, parsed_values, verdicts
from evals.judges.reward import RewardRubric
from evals.judges.rubrics import choose_rubric
from megatron_sft.data.chat import ChatTokenizer
from megatron_sft.errors import ConfigError
from tests.conftest import tiny_qwen3_config
from tests.evals.judges.conftest import JudgeServer, answer_to
from tests.vllm_server import VllmServer

pytest.importorskip("httpx", reason="httpx is not installed")

REPLIES = ("Take flour and eggs.", "I do not know.", "Cake? Cake! Cake.", None)


class RewardServer(JudgeServer):
    """Rewards the length of the last turn."""

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        return {"data": [{"probs": [len(body["messages"][-1]["content"]) / 8]}], "usage": {"prompt_tokens": 9}}


def test_rewards_are_filed_like_judgements(tiny_tokenizer: Path, tmp_path: Path) -> None:
    server = RewardServer(ChatTokenizer(tiny_tokenizer))
    server.start()
    judge = open_judge(f"reward:org/rm@{server.url}", JudgeOptions(max_num_seqs=2))
    rubric = choose_rubric("alpaca_eval", judge)
    assert (judge.name, rubric.name) == ("org_rm", "reward@1")
    answers = [answer_to(str(number), reply) for number, reply in enumerate(REPLIES)]
    task = JudgeTask(rubric=rubric, answers=answers, path=tmp_path / "alpaca_eval.jsonl")
    (summary,) = judge_answers(judge, [task])
    server.stop()
    assert (summary.num_questions, summary.num_unparsed, summary.num_no_reply) == (3, 0, 1)
    assert parsed_values(judge, task) == {"0/0/reward": 2.5, "1/0/reward": 1.75, "2/0/reward": 2.125}
    found = verdicts(judge, task)
    assert found[0].figures["score"] == 2.5
    assert (found[3].correct, found[3].reason, dict(found[3].figures)) == (False, "no_reply", {"no_reply": 1.0})
    body = min(server.bodies, key=lambda body: body["messages"][0]["content"])
    assert body["messages"] == [
        {"role": "user", "content": "How do I bake cake 0?"},
        {"role": "assistant", "content": "Take flour and eggs."},
    ]
    assert body["use_activation"] is False


def test_a_reward_model_answers_no_questions_in_words() -> None:
    judge = open_judge("reward:rm@http://localhost:1/v1", JudgeOptions())
    with pytest.raises(ConfigError, match="is a reward model, which cannot answer the questions of harmfulness"):
        choose_rubric("harmfulness", judge)
    with pytest.raises(ConfigError, match="vLLM's /classify"):
        RewardJudge(endpoint_settings("rm", "http://localhost:1/v1", JudgeOptions(dialect="openai")))


@pytest.mark.parametrize(
    ("text", "expected"), [("-1.5", -1.5), ("nan", None), ("inf", None), ("much", None), ("", None)]
)
def test_rewards_are_finite_numbers(text: str, expected: float | None) -> None:
    assert RewardRubric().parse("reward", text) == expected


def random_reward_model(tiny_tokenizer: Path, folder: Path) -> Path:
    """A Qwen3 with one output for a sequence and random weights."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    shutil.copytree(tiny_tokenizer, folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    torch.manual_seed(0)
    ids = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    config = tiny_qwen3_config(num_labels=1, **ids)
    transformers.Qwen3ForSequenceClassification(config).save_pretrained(folder)
    return folder


@pytest.mark.vllm
@pytest.mark.slow
def test_a_served_reward_model_against_transformers(tiny_tokenizer: Path, tmp_path: Path) -> None:
    pytest.importorskip("vllm", reason="vLLM is not installed")
    import torch
    import transformers

    folder = random_reward_model(tiny_tokenizer, tmp_path / "rm")
    server = VllmServer(folder, tmp_path / "server", name="rm", max_model_len=256, options="--runner pooling")
    judge = open_judge(f"reward:rm@{server.url}", JudgeOptions(max_num_seqs=4))
    answers = [answer_to(str(number), reply) for number, reply in enumerate(REPLIES)]
    task = JudgeTask(rubric=RewardRubric(), answers=answers, path=tmp_path / "alpaca_eval.jsonl")
    server.start()
    try:
        judge_answers(judge, [task])
    finally:
        server.kill()
    rewards = parsed_values(judge, task)
    assert len(rewards) == 3, task.failures_path.exists() and task.failures_path.read_text()
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder, dtype="float32").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    for number, reply in enumerate(REPLIES[:3]):
        turns = [*answers[number].messages, {"role": "assistant", "content": reply}]
        ids = tokenizer.apply_chat_template(turns, tokenize=False)
        encoded = tokenizer(ids, return_tensors="pt", add_special_tokens=False)
        with torch.no_grad():
            expected = model(**encoded).logits[0, 0].item()
        assert rewards[f"{number}/0/reward"] == pytest.approx(expected, rel=1e-3, abs=1e-4)
    print(json.dumps(rewards))
