"""Subtraction without negative results, digit by digit from the right with the borrow written out."""

from random import Random

from megatron_sft.data.tasks.problem import Difficulty, Family, Problem, Solution, draw_integer


def draw(rng: Random, difficulty: Difficulty) -> Problem:
    """Draw two numbers and subtract the smaller from the larger."""
    b, a = sorted((draw_integer(rng, difficulty.max_digits), draw_integer(rng, difficulty.max_digits)))
    return Problem(
        key=f"{a}-{b}",
        question=f"Compute {a} - {b}.",
        answer=str(a - b),
        solve=lambda: solve(a, b),
    )


def solve(a: int, b: int) -> Solution:
    """Subtract column by column for `a >= b`; a negative column borrows ten from the next.

    345 - 78:
        345-078
        5-8-0=-3 write:7 borrow:1
        4-7-1=-4 write:67 borrow:1
        3-0-1=2 write:267 borrow:0
    """
    width = len(str(a))
    left, right = str(a), f"{b:0{width}d}"
    lines, written, borrow = [f"{left}-{right}"], "", 0
    for x, y in zip(reversed(left), reversed(right), strict=True):
        difference = int(x) - int(y) - borrow
        written = f"{difference % 10}{written}"
        lines.append(f"{x}-{y}-{borrow}={difference} write:{written} borrow:{int(difference < 0)}")
        borrow = int(difference < 0)
    assert borrow == 0
    assert int(written) == a - b
    return Solution(steps="\n".join(lines), boxed=str(int(written)))


SUBTRACTION = Family(
    name="subtraction",
    summary="a number minus a smaller one, digit by digit with borrows",
    options=frozenset({"max_digits"}),
    draw=draw,
)
