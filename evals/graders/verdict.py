"""What graders return, and where in a response the answer is."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from megatron_sft.data.chat import answer_text

THINK_OPENING, THINK_CLOSING = "<think>", "</think>"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A grader's decision; `correct` None means that it could not decide, which scores as wrong."""

    correct: bool | None
    reason: str
    """Empty when correct; else a word of the grader's, and behind a colon what it saw."""
    figures: Mapping[str, float] = field(default_factory=dict)
    """Further numbers about the answer, summed for `Benchmark.ratios`."""


class Grader(Protocol):
    """Decides about final answers."""

    name: str
    """With a version behind `@`, which must change when decisions change: grades on file are keyed by it."""
    reads_trace: bool
    """Whether `grade` gets the whole response, trace included, as some of the paper's own code does."""

    def grade(self, final: str, answer: Any) -> Verdict:
        """Compare the text after the trace (see `reads_trace`) with the item's answer."""

    def close(self) -> None:
        """Give back processes."""


def final_part(text: str, *, prompt_opens_think: bool) -> str | None:
    """Return what follows the last `</think>`; None when a think block was opened and never closed.

    A trace is not an answer: a box inside an unfinished one does not count.
    """
    if prompt_opens_think and THINK_CLOSING not in text:
        return None
    if text.rfind(THINK_OPENING) > text.rfind(THINK_CLOSING):
        return None
    return answer_text(text)
