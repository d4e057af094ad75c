"""Countdown: an expression that uses every number once and equals the target, in exact rationals.

The expression is parsed, never executed. (reasoning-gym's scorer evaluates what it is given as Python.)
"""

from typing import Any

from evals.graders.verdict import Verdict
from megatron_sft.data.chat import verify_countdown


class CountdownGrader:
    """The native verifier, which also verifies training data."""

    name = "countdown@1"
    reads_trace = False

    def grade(self, final: str, answer: Any) -> Verdict:
        """See `Grader`."""
        if not _is_instance(answer):
            return Verdict(correct=None, reason=f"bad item: expected numbers and target, not {answer!r}")
        correct, reason = verify_countdown(final, answer["numbers"], answer["target"])
        return Verdict(correct=correct, reason=reason)

    def close(self) -> None:
        """See `Grader`."""


def _is_instance(answer: Any) -> bool:
    return (
        isinstance(answer, dict)
        and isinstance(answer.get("target"), int)
        and isinstance(answer.get("numbers"), list)
        and all(isinstance(number, int) for number in answer["numbers"])
    )
