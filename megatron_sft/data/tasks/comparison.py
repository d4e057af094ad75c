"""The larger of two different numbers, compared digit by digit from the left."""

from random import Random

from megatron_sft.data.tasks.problem import Difficulty, Family, Problem, Solution, draw_integer


def draw(rng: Random, difficulty: Difficulty) -> Problem:
    """Draw two different numbers; their order does not matter for the split."""
    a = b = draw_integer(rng, difficulty.max_digits)
    while b == a:
        b = draw_integer(rng, difficulty.max_digits)
    return Problem(
        key=f"{min(a, b)}<{max(a, b)}",
        question=f"Which is larger, {a} or {b}?",
        answer=str(max(a, b)),
        solve=lambda: solve(a, b),
    )


def solve(a: int, b: int) -> Solution:
    """Pad to equal length and compare column by column until one differs.

    345 and 378:
        345,378
        3=3
        4<7
        378
    """
    width = max(len(str(a)), len(str(b)))
    left, right = f"{a:0{width}d}", f"{b:0{width}d}"
    lines = [f"{left},{right}"]
    for x, y in zip(left, right, strict=True):
        lines.append(f"{x}{'=' if x == y else '<' if x < y else '>'}{y}")
        if x != y:
            break
    lines.append(str(max(a, b)))
    return Solution(steps="\n".join(lines), boxed=str(max(a, b)))


COMPARISON = Family(
    name="comparison",
    summary="the larger of two numbers",
    options=frozenset({"max_digits"}),
    draw=draw,
)
