"""Graded answers and plans with what a test names, and something for the rest."""

from pathlib import Path
from typing import Any, cast

from evals.grade import GradedAnswer
from evals.items import Item
from evals.plan import Sampling, TaskPlan
from evals.task import Task
from megatron_sft.data.chat import ChatTokenizer
from megatron_sft.generation.model_folder import ModelFolder


def make_answer(item: str, correct: bool | None, **changes: Any) -> GradedAnswer:
    fields: dict[str, Any] = {
        "item": item,
        "sample": 0,
        "correct": correct,
        "reason": "" if correct else "wrong_answer: '6' is not '5'",
        "num_tokens": 10,
        "finish_reason": "stop",
        "engine": {"vllm": "0.32.0"},
        "figures": {},
        "text": "",
        "token_ids": [],
    }
    return GradedAnswer(**(fields | changes))


def make_plan(path: str, iteration: int | None, *, task: str = "addition", items: int = 4, **sampling: Any) -> TaskPlan:
    """A plan without answers: aggregating reads what was planned for all of them."""
    model = ModelFolder(
        name=Path(path).name,
        path=Path(path),
        iteration=iteration,
        fingerprint=f"fingerprint of {path}",
        architecture="the same",
        max_position_embeddings=256,
        kv_bytes_per_token=1,
        tokenizer=cast("ChatTokenizer", None),
    )
    fields: dict[str, Any] = {
        "temperature": 0.6,
        "top_p": 0.95,
        "top_k": 0,
        "min_p": 0.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "prompt_format": "chat",
        "max_tokens": 100,
        "stop_token_ids": [0],
        "num_samples_per_item": 1,
        "dtype": "auto",
    }
    rows = [Item(id=str(n), messages=[{"role": "user", "content": "?"}], answer="5") for n in range(items)]
    return TaskPlan(
        model=model,
        task=Task(name=task, group="in-domain", grader="exact", items=rows),
        sampling=Sampling(**(fields | sampling)),
        answers=[],
        prompt_fingerprint="prompts",
    )


def fenced(code: str) -> str:
    """A response that ends with a program."""
    return f"Here it is.\n\n```python\n{code}\n```\n"
