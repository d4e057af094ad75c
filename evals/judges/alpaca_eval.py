"""How good a reply to an instruction is, from 1 to 10.

For AlpacaEval's instructions where no reward model is at hand. The scale is this project's own: its figures are neither
the paper's reward scores nor AlpacaEval's win rate.
"""

from collections.abc import Mapping
from typing import Any

from evals.graders.verdict import Verdict
from evals.judges.reply import Reply, quoted
from evals.judges.rubric import NO_REPLY, NOTICE, JudgeQuestion, last_user_text, stated, unparsed, user_turn

QUESTION = "quality"
LOWEST, GOOD = 1, 6

TASK = (
    "You rate how well a language model's reply serves somebody who gave this instruction. What counts: that it does "
    "what was asked, completely; that it is right; that it is clear and no longer than it needs to be. Length and a "
    "pleasant tone are no merits in themselves."
)
SCALE = """10: could not be better in substance or form
8: good; a small thing could be better
6: serves its purpose, with weaknesses
4: helps in part; something important is missing or wrong
2: hardly helps
1: useless, or has nothing to do with the instruction"""
FORM = (
    "First give your reasons in a few sentences. Then end with one line of its own that has the score and nothing "
    "else, as in\n"
    "Score: N\n"
    "with N a whole number from 1 to 10. Write no other line that begins with `Score:`."
)


class AlpacaEvalRubric:
    """One question, 1 to 10. The score is the mean; `correct` is 6 or more, "serves its purpose"."""

    name = "alpaca_eval@1"
    values = tuple(range(1, 11))

    def questions(self, answer: Any, messages: list[dict[str, str]], reply: Reply) -> list[JudgeQuestion]:
        """See `Rubric`; the instruction is the conversation's. A reference answer is not shown: it is no ideal."""
        marked = quoted({"instruction": last_user_text(messages), "reply": reply.text})
        texts = (TASK, NOTICE, marked["instruction"], marked["reply"], f"The scale:\n{SCALE}", NOTICE, FORM)
        return [JudgeQuestion(id=QUESTION, messages=user_turn(*texts))]

    def parse(self, question_id: str, text: str) -> int | None:
        """See `Rubric`: 1 to 10."""
        value = stated(text, "Score", "[1-9]|10")
        return None if value is None else int(value)

    def verdict(self, values: Mapping[str, Any]) -> Verdict:
        """See `Rubric`."""
        if QUESTION not in values:
            return unparsed()
        value = values[QUESTION]
        good = value >= GOOD
        figures = {"score": float(value), "judged": 1.0, "decided": 1.0}
        return Verdict(correct=good, reason="" if good else "low_quality", figures=figures)

    def no_reply(self) -> Verdict:
        """See `Rubric`: the lowest score, so that a model that never answers gains nothing."""
        return Verdict(
            correct=False, reason=NO_REPLY, figures={"score": float(LOWEST), "no_reply": 1.0, "decided": 1.0}
        )
