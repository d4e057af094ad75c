"""IFEval's strict and loose verdicts, by prompt and by instruction."""

from collections.abc import Iterator
from typing import Any

from evals.graders.ifeval.instructions import ARGUMENTS, INSTRUCTIONS
from evals.graders.ifeval.language import check_installed
from evals.graders.verdict import Verdict

MAX_CHARS = 400_000
"""A longer response follows nothing: it is more than a budget of 32,768 tokens gives, and not worth the time."""


class IfevalGrader:
    """Checks a response against `{"instructions": [{"id": ..., "arguments": {...}}, ...]}`.

    Correct means that all instructions are followed, strictly. The figures count prompts and instructions, strict and
    loose. White space at the ends of the final text is not part of the response.
    """

    name = "ifeval@1"
    reads_trace = False

    def __init__(self) -> None:
        """Check that the libraries are there."""
        check_installed()

    def grade(self, final: str, answer: Any) -> Verdict:
        """See `Grader`."""
        instructions = answer.get("instructions") if isinstance(answer, dict) else None
        if not _are_instructions(instructions):
            return Verdict(correct=None, reason=f"bad item: expected instructions, not {str(answer)[:80]!r}")
        assert instructions is not None
        response = final.lstrip()
        too_long = len(response) > MAX_CHARS
        others = [] if too_long else [text for text in loose_variants(response) if text != response]
        strict = [not too_long and _follows([response], one) for one in instructions]
        loose = [
            followed or (not too_long and _follows(others, one))
            for followed, one in zip(strict, instructions, strict=True)
        ]
        figures = {
            "num_prompts": 1,
            "prompt_strict": int(all(strict)),
            "prompt_loose": int(all(loose)),
            "num_instructions": len(instructions),
            "num_followed_strict": sum(strict),
            "num_followed_loose": sum(loose),
        }
        not_followed = [one["id"] for one, followed in zip(instructions, strict, strict=True) if not followed]
        reason = f"not_followed: {', '.join(not_followed)}" if not_followed else ""
        if too_long:
            reason = f"too_long: {len(response)} characters, more than {MAX_CHARS}"
        return Verdict(correct=all(strict), reason=reason, figures=figures)

    def close(self) -> None:
        """See `Grader`."""


def loose_variants(response: str) -> Iterator[str]:
    """Give a response without its stars, its first line, its last line, and every mixture of these, each text once."""
    lines = response.split("\n")
    cut = ["\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1])]
    # Most responses have few variants that differ, and some checks are slow.
    yield from dict.fromkeys([response.replace("*", ""), *cut, *(text.replace("*", "") for text in cut)])


def _follows(variants: Any, instruction: dict[str, Any]) -> bool:
    check = INSTRUCTIONS[instruction["id"]][0]
    return any(text.strip() and check(text, instruction["arguments"]) for text in variants)


def _are_instructions(instructions: Any) -> bool:
    return (
        isinstance(instructions, list)
        and bool(instructions)
        and all(
            isinstance(one, dict) and one.get("id") in ARGUMENTS and isinstance(one.get("arguments"), dict)
            for one in instructions
        )
    )
