"""The number that a reward model has for a reply."""

import math
from collections.abc import Mapping
from typing import Any

from evals.graders.verdict import Verdict
from evals.judges.reply import Reply
from evals.judges.rubric import NO_REPLY, JudgeQuestion, unparsed

QUESTION = "reward"


class RewardRubric:
    """The conversation with the reply as its last turn; the score is the mean reward, in the model's own unit.

    Rewards have no threshold: every rewarded reply counts as `correct`, so only the figures mean anything.
    """

    name = "reward@1"
    values: tuple[float, ...] = ()

    def questions(self, answer: Any, messages: list[dict[str, str]], reply: Reply) -> list[JudgeQuestion]:
        """See `Rubric`."""
        return [JudgeQuestion(id=QUESTION, messages=[*messages, {"role": "assistant", "content": reply.text}])]

    def parse(self, question_id: str, text: str) -> float | None:
        """See `Rubric`; what is not finite is no reward."""
        try:
            value = float(text)
        except ValueError:
            return None
        return value if math.isfinite(value) else None

    def verdict(self, values: Mapping[str, Any]) -> Verdict:
        """See `Rubric`."""
        if QUESTION not in values:
            return unparsed()
        figures = {"score": values[QUESTION], "judged": 1.0, "decided": 1.0}
        return Verdict(correct=True, reason="", figures=figures)

    def no_reply(self) -> Verdict:
        """See `Rubric`: there is no lowest reward, so such answers are outside the mean and counted beside it."""
        return Verdict(correct=False, reason=NO_REPLY, figures={"no_reply": 1.0})
