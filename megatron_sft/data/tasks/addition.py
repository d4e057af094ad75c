"""Addition of two numbers, digit by digit from the right with the carry written out."""

from random import Random

from megatron_sft.data.tasks.problem import Difficulty, Family, Problem, Solution, draw_integer


def draw(rng: Random, difficulty: Difficulty) -> Problem:
    """Draw two operands; `a + b` and `b + a` are the same problem for the split."""
    a, b = draw_integer(rng, difficulty.max_digits), draw_integer(rng, difficulty.max_digits)
    return Problem(
        key=f"{min(a, b)}+{max(a, b)}",
        question=f"Compute {a} + {b}.",
        answer=str(a + b),
        solve=lambda: solve(a, b),
    )


def solve(a: int, b: int) -> Solution:
    """Add column by column; `write` repeats the digits found so far, so the last line holds the result.

    345 + 78:
        345+078
        5+8+0=13 write:3 carry:1
        4+7+1=12 write:23 carry:1
        3+0+1=4 write:423 carry:0
    """
    width = max(len(str(a)), len(str(b)))
    left, right = f"{a:0{width}d}", f"{b:0{width}d}"
    lines, written, carry = [f"{left}+{right}"], "", 0
    for x, y in zip(reversed(left), reversed(right), strict=True):
        total = int(x) + int(y) + carry
        written = f"{total % 10}{written}"
        lines.append(f"{x}+{y}+{carry}={total} write:{written} carry:{total // 10}")
        carry = total // 10
    result = f"{carry}{written}" if carry else written
    assert int(result) == a + b
    return Solution(steps="\n".join(lines), boxed=str(int(result)))


ADDITION = Family(
    name="addition",
    summary="two numbers, added digit by digit with carries",
    options=frozenset({"max_digits"}),
    draw=draw,
)
