"""Exact comparison of the boxed answer, as a string."""

from typing import Any

from evals.graders.verdict import Verdict
from megatron_sft.data.chat import last_boxed


class ExactGrader:
    """The last boxed text equals the answer, white space aside. `0283` is not `283`: digit strings are answers, too."""

    name = "exact@1"
    reads_trace = False

    def grade(self, final: str, answer: Any) -> Verdict:
        """See `Grader`."""
        if not isinstance(answer, str):
            return Verdict(correct=None, reason=f"bad item: the exact grader needs a string, not {answer!r}")
        boxed = last_boxed(final)
        if boxed is None:
            return Verdict(correct=False, reason="no_boxed_answer")
        if "".join(boxed.split()) == "".join(answer.split()):
            return Verdict(correct=True, reason="")
        return Verdict(correct=False, reason=f"wrong_answer: {boxed[:80]!r} is not {answer!r}")

    def close(self) -> None:
        """See `Grader`."""
