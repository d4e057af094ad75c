r"""Answers of procedural problems, compared by the form that they have.

The last box is taken, what sets type in it (`\text{}`, `$`, a final full stop) is removed, and the rest must match the
form's pattern as a whole; nothing is evaluated.
"""

import re
from collections.abc import Callable
from typing import Any, Literal, TypeAlias, get_args

from evals.graders.boxed import plain_text
from evals.graders.verdict import Verdict
from megatron_sft.data.chat import last_boxed

Form: TypeAlias = Literal["integer", "fraction", "factors", "word", "exact_word", "exact_words", "numbers", "roles"]
"""integer: -1,234; fraction: 3/4 or \frac{3}{4}, not reduced further; factors: 2 x 2 x 5 in any order; word: letters
of either case; exact_word, exact_words: case counts, words are separated by commas; numbers: a list, compared as
numbers in order; roles: "Ann is a knight, and Bob is a knave" in any order."""

MAX_CHARS = 2_000
"""No right answer comes near; a longer box is wrong before any pattern sees it."""

_INTEGER = re.compile(r"[+-]?(?:\d{1,3}(?:,\d{3})+|\d+)", re.ASCII)
_DECIMAL = re.compile(r"[+-]?\d+(?:\.\d+)?", re.ASCII)
_FRACTION = re.compile(r"([+-]?)(?:\\[dt]?frac\{(\d+)\}\{(\d+)\}|(\d+)\s*/\s*(\d+))", re.ASCII)
_TIMES = re.compile(r"\s*(?:\\times|\\cdot|[x\u00d7*\u00b7])\s*")
_ROLE = re.compile(r"(\w+) is an? (\w+)")


class FormGrader:
    """Compares the boxed answer with an item's answer `{"form": ..., "answer": ...}`."""

    name = "form@1"
    reads_trace = False

    def grade(self, final: str, answer: Any) -> Verdict:
        """See `Grader`."""
        if not isinstance(answer, dict) or answer.get("form") not in get_args(Form):
            return Verdict(correct=None, reason=f"bad item: expected form and answer, not {str(answer)[:80]!r}")
        read = READERS[answer["form"]]
        wanted = read(plain_text(str(answer["answer"])))
        if wanted is None:
            return Verdict(correct=None, reason=f"bad item: {answer['answer']!r} has not the form {answer['form']}")
        boxed = last_boxed(final)
        if boxed is None:
            return Verdict(correct=False, reason="no_boxed_answer")
        if len(boxed) > MAX_CHARS:
            return Verdict(correct=False, reason="wrong_answer: too long")
        found = read(plain_text(boxed))
        if found is None:
            return Verdict(correct=False, reason=f"wrong_form: {boxed[:80]!r} is not of the form {answer['form']}")
        if found == wanted:
            return Verdict(correct=True, reason="")
        return Verdict(correct=False, reason=f"wrong_answer: {boxed[:80]!r} is not {answer['answer']!r}")

    def close(self) -> None:
        """See `Grader`."""


def _integer(text: str) -> Any:
    # Digits are compared as text: Python limits how long a number `int` takes.
    text = "".join(text.replace("{,}", ",").split())
    if not _INTEGER.fullmatch(text):
        return None
    digits = text.lstrip("+-").replace(",", "").lstrip("0") or "0"
    return f"-{digits}" if text.startswith("-") and digits != "0" else digits


def _number(text: str) -> Any:
    text = text.strip().strip("'\"").strip()
    if not _DECIMAL.fullmatch(text):
        return None
    whole, _, fraction = text.lstrip("+-").partition(".")
    digits = f"{whole.lstrip('0') or '0'}.{fraction.rstrip('0')}"
    return f"-{digits}" if text.startswith("-") and digits != "0." else digits


def _fraction(text: str) -> Any:
    match = _FRACTION.fullmatch(text.strip())
    if match is None:
        return None
    sign, top, bottom = match[1].replace("+", ""), match[2] or match[4], match[3] or match[5]
    return sign, top.lstrip("0") or "0", bottom.lstrip("0") or "0"


def _factors(text: str) -> Any:
    factors = [_integer(factor) for factor in _TIMES.split(text.strip())]
    return None if None in factors else sorted(factors)


def _word(text: str) -> Any:
    return " ".join(text.split()).casefold() or None


def _exact_word(text: str) -> Any:
    return text.strip() or None


def _exact_words(text: str) -> Any:
    words = [word.strip() for word in text.strip().removeprefix("[").removesuffix("]").split(",")]
    return None if "" in words else words


def _numbers(text: str) -> Any:
    inside = text.strip().removeprefix("\\left").removeprefix("[").removesuffix("]").removesuffix("\\right")
    numbers = [_number(word) for word in inside.split(",")]
    return None if None in numbers else numbers


def _roles(text: str) -> Any:
    claims = [claim.strip() for claim in re.split(r",\s*(?:and\s+)?|\s+and\s+", text.strip().rstrip("."))]
    matches = [_ROLE.fullmatch(claim) for claim in claims]
    if not all(matches):
        return None
    roles = [(match[1], match[2].casefold()) for match in matches if match is not None]
    return sorted(roles) if len({name for name, _ in roles}) == len(roles) else None


READERS: dict[str, Callable[[str], Any]] = {
    "integer": _integer,
    "fraction": _fraction,
    "factors": _factors,
    "word": _word,
    "exact_word": _exact_word,
    "exact_words": _exact_words,
    "numbers": _numbers,
    "roles": _roles,
}
"""Form -> what reads a text of that form into something comparable; None where the text does not have it."""
