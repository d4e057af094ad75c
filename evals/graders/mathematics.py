"""Mathematical equivalence, as the data layer verifies it: proven natively, else by math-verify in a killable process.

math-verify relies on alarms, which do not fire in threads and are overrun by sympy for seconds or minutes (towers of
powers, huge factorials). So it runs in a process of its own with a limit of processor time; whatever does not finish is
undecided.
"""

import sys
from typing import Any

from evals.graders.verdict import Verdict
from megatron_sft.data.chat import MathVerifier, last_boxed
from megatron_sft.data.math_verify_server import COMMAND


class MathGrader:
    """math-verify's verdict on the last box."""

    name = "math@2"
    reads_trace = False

    def __init__(self, limit_s: float = 10.0) -> None:
        """Decide about an answer within `limit_s` seconds of processor time or not at all."""
        self._verifier = MathVerifier([sys.executable, *COMMAND], limit_s)

    def grade(self, final: str, answer: Any) -> Verdict:
        """See `Grader`."""
        if not isinstance(answer, str):
            return Verdict(correct=None, reason=f"bad item: the math grader needs a string, not {answer!r}")
        boxed = last_boxed(final)
        if boxed is None:
            return Verdict(correct=False, reason="no_boxed_answer")
        verdict, _, cause = self._verifier.verify(answer, boxed)
        if verdict == "undecided":
            return Verdict(correct=None, reason=f"undecided: {cause} for {boxed[:80]!r}")
        if verdict == "equal":
            return Verdict(correct=True, reason="")
        return Verdict(correct=False, reason=f"wrong_answer: {boxed[:80]!r} is not {answer!r}")

    def close(self) -> None:
        """See `Grader`."""
        self._verifier.close()


class MathPaperGrader(MathGrader):
    """As the paper's own script, which reads the whole response: the last box counts, also inside a trace.

    The script also takes an answer from responses without any box; here they are wrong.
    """

    name = "math_paper@1"
    reads_trace = True
