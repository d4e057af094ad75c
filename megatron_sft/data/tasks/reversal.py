"""A digit string written backwards, one digit a line."""

from random import Random

from megatron_sft.data.tasks.problem import Difficulty, Family, Problem, Solution, draw_digit_string


def draw(rng: Random, difficulty: Difficulty) -> Problem:
    """Draw a digit string; its answer keeps leading zeros."""
    digits = draw_digit_string(rng, difficulty.max_string_digits)
    return Problem(
        key=digits,
        question=f"Write the digits of {digits} in reverse order.",
        answer=digits[::-1],
        solve=lambda: solve(digits),
    )


def solve(digits: str) -> Solution:
    """Put each digit in front of those before it.

    382:
        prepend 3:3
        prepend 8:83
        prepend 2:283
    """
    lines = [f"prepend {digit}:{digits[: i + 1][::-1]}" for i, digit in enumerate(digits)]
    return Solution(steps="\n".join(lines), boxed=digits[::-1])


REVERSAL = Family(
    name="reversal",
    summary="a digit string written backwards",
    options=frozenset({"max_string_digits"}),
    draw=draw,
)
