"""What a family of procedural problems is, and how its problems become rows."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any, Literal

Split = Literal["train", "held_out"]
Style = Literal["trace", "short", "low_quality"]

SUFFIX = "Please reason step by step, and put your final answer within \\boxed{}."
"""Last line of every prompt, after one newline."""

HELD_OUT_PERCENT = 10
"""Share of a family's possible problems that no training file may contain."""


@dataclass(frozen=True, kw_only=True)
class Difficulty:
    """Sizes that the families draw their problems with."""

    max_digits: int = 3
    """Longest operand of addition, subtraction and comparison, in digits."""
    max_string_digits: int = 5
    """Longest digit string of sorting, reversal and counting, in digits."""
    countdown_numbers: tuple[int, ...] = (3, 4)
    """How many numbers a Countdown problem may have; one is drawn per problem."""


@dataclass(frozen=True, kw_only=True)
class Solution:
    """A worked answer."""

    steps: str
    """The trace: lines of reasoning, without the think markers."""
    boxed: str
    """The final answer as it stands inside `\\boxed{}`."""
    refusal: str = ""
    """What is said instead, without a box, where the request is to be declined."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One drawn problem. Solving it is put off, as most draws belong to the other split."""

    key: str
    """The problem's content in a canonical order: equal keys are the same problem."""
    question: str
    """The prompt without `SUFFIX`."""
    answer: str | dict[str, Any]
    """What a checker needs: the exact string, or Countdown's numbers and target."""
    solve: Callable[[], Solution]
    """Writes the trace and the boxed answer."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """A kind of problem."""

    name: str
    """The task's name in rows, file names and on the command line."""
    summary: str
    """One line for the documentation and `--help`."""
    options: frozenset[str]
    """Names of the `Difficulty` fields that `draw` heeds."""
    draw: Callable[[Random, Difficulty], Problem]
    """Draws a problem; all randomness comes from the generator given."""
    has_traces: bool = True
    """False where the family knows answers but no steps."""


def split_of(family: str, key: str) -> Split:
    """Say which split a problem belongs to: a function of its content alone.

    So every training file is disjoint from every held-out file of the family, whatever seed, size or
    difficulty either was made with.
    """
    digest = hashlib.sha256(f"{family}\n{key}".encode()).digest()
    return "held_out" if int.from_bytes(digest[:8], "big") % 100 < HELD_OUT_PERCENT else "train"


def make_row(
    family: Family, problem: Problem, *, row_id: str, style: Style, wrong_share: float = 0.0, seed: int = 0
) -> dict[str, Any]:
    """Return the JSON row of a problem: `id`, `task`, `message`, `response`, `answer`.

    Rows of the style low_quality have `verified`, false: their response may box another answer than `answer`. Which
    rows do is a function of `seed` and the problem.
    """
    solution = problem.solve()
    row: dict[str, Any] = {
        "id": row_id,
        "task": family.name,
        "message": [{"role": "user", "content": f"{problem.question}\n{SUFFIX}"}],
        "response": solution.refusal or f"\\boxed{{{solution.boxed}}}",
        "answer": problem.answer,
    }
    if style == "trace":
        row["response"] = f"<think>\n{solution.steps}\n</think>\n\n{row['response']}"
    elif style == "low_quality":
        rng = Random(f"{seed}/{family.name}/{problem.key}")
        boxed = spoil(solution.boxed, rng) if rng.random() < wrong_share else solution.boxed
        row["response"] = f"{leap(solution.steps)}\n\\boxed{{{boxed}}}"
        row["verified"] = False
    return row


def leap(steps: str) -> str:
    """Keep every second line of a trace, from its second one on: a solution that leaves out how it comes about."""
    lines = steps.split("\n")
    return "\n".join(lines[1::2] or lines)


def spoil(boxed: str, rng: Random) -> str:
    """Change one digit of an answer, as a slip would; an answer without digits is returned as it is."""
    places = [place for place, character in enumerate(boxed) if character.isdigit()]
    if not places:
        return boxed
    place = rng.choice(places)
    other = rng.choice([digit for digit in "0123456789" if digit != boxed[place]])
    return f"{boxed[:place]}{other}{boxed[place + 1 :]}"


def draw_integer(rng: Random, max_digits: int) -> int:
    """Draw a non-negative integer of at most `max_digits` digits, longer ones more often.

    The length is drawn with weight length squared, so that short operands occur without filling the
    file with the few problems they allow.
    """
    lengths = range(1, max_digits + 1)
    length = rng.choices(lengths, weights=[length**2 for length in lengths])[0]
    low = 0 if length == 1 else 10 ** (length - 1)
    return rng.randrange(low, 10**length)


def draw_digit_string(rng: Random, max_digits: int) -> str:
    """Draw a string of 3 to `max_digits` digits (never fewer than 3), leading zeros included."""
    length = rng.randint(3, max(3, max_digits))
    return "".join(str(rng.randrange(10)) for _ in range(length))
