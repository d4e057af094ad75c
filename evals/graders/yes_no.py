"""Yes or no: the last of the two words in the text after the trace."""

import re
from typing import Any

from evals.graders.verdict import Verdict

_WORD = re.compile(r"\b(?:yes|no)\b", re.IGNORECASE)


class YesNoGrader:
    """Compares the last "yes" or "no", in any case, with the item's answer "Yes" or "No"."""

    name = "yes_no@1"
    reads_trace = False

    def grade(self, final: str, answer: Any) -> Verdict:
        """See `Grader`."""
        if answer not in ("Yes", "No"):
            return Verdict(correct=None, reason=f"bad item: expected Yes or No, not {str(answer)[:80]!r}")
        last = None
        for match in _WORD.finditer(final):
            last = match[0].capitalize()
        if last is None:
            return Verdict(correct=False, reason="no_yes_or_no")
        if last == answer:
            return Verdict(correct=True, reason="")
        return Verdict(correct=False, reason=f"wrong_answer: {last} is not {answer}")

    def close(self) -> None:
        """See `Grader`."""
