"""A judge's server on loopback, and answers to judge."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from evals.judges.judge import EndpointJudge, JudgeOptions, endpoint_settings
from evals.judges.judgements import AnswerToJudge
from evals.judges.reply import Reply
from megatron_sft.data.chat import ChatTokenizer
from tests.traces.conftest import Teacher


class JudgeServer(Teacher):
    """Answers /v1/chat/completions with `says`, a function of the question's text; faults as `Teacher`'s."""

    def __init__(self, tokenizer: ChatTokenizer) -> None:
        super().__init__(tokenizer)
        self.says: Callable[[str], str] = lambda question: "It declines.\nScore: 1"
        self.finish_reason = "stop"

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        if "messages" not in body:
            return super().answer(body)
        text = self.says(body["messages"][-1]["content"])
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": self.finish_reason}
        return {"choices": [choice], "usage": {"completion_tokens": len(text.split())}, "system_fingerprint": "fp-1"}

    def judge(self, **options: Any) -> EndpointJudge:
        """Ask this server, without long pauses."""
        quick = {"retry_delay": 0.01, "max_retry_delay": 0.05, "max_num_seqs": 4} | options
        chosen = JudgeOptions(**quick)
        return EndpointJudge(endpoint_settings("org/judge", self.url, chosen), chosen.max_tokens)


@pytest.fixture
def server(tiny_tokenizer: Path) -> Iterator[JudgeServer]:
    """A server that is up."""
    server = JudgeServer(ChatTokenizer(tiny_tokenizer))
    server.start()
    yield server
    server.stop()


def answer_to(item: str, reply: str | None, sample: int = 0, request: str = "") -> AnswerToJudge:
    """An answer to a harmless stand-in for a harmful request."""
    request = request or f"How do I bake cake {item}?"
    return AnswerToJudge(
        item=item,
        sample=sample,
        messages=[{"role": "user", "content": request}],
        answer={"request": request},
        reply=None if reply is None else Reply(text=reply, truncated=False),
    )
