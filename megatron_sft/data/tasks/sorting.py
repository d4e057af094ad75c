"""Sorting the digits of a string, one insertion a line."""

from random import Random

from megatron_sft.data.tasks.problem import Difficulty, Family, Problem, Solution, draw_digit_string


def draw(rng: Random, difficulty: Difficulty) -> Problem:
    """Draw a digit string."""
    digits = draw_digit_string(rng, difficulty.max_string_digits)
    return Problem(
        key=digits,
        question=f"Sort the digits of {digits} from small to large.",
        answer="".join(sorted(digits)),
        solve=lambda: solve(digits),
    )


def solve(digits: str) -> Solution:
    """Insert the digits one after the other into a sorted string.

    382:
        insert 3:3
        insert 8:38
        insert 2:238
    """
    lines, done = [], ""
    for digit in digits:
        done = "".join(sorted(done + digit))
        lines.append(f"insert {digit}:{done}")
    return Solution(steps="\n".join(lines), boxed=done)


SORTING = Family(
    name="sorting",
    summary="the digits of a string from small to large",
    options=frozenset({"max_string_digits"}),
    draw=draw,
)
