"""How often a digit occurs in a string, with a running count."""

from random import Random

from megatron_sft.data.tasks.problem import Difficulty, Family, Problem, Solution, draw_digit_string


def draw(rng: Random, difficulty: Difficulty) -> Problem:
    """Draw a digit and a string over three digits, of which it is one: counts above one are common."""
    digits = draw_digit_string(rng, difficulty.max_string_digits)
    alphabet = rng.sample("0123456789", 3)
    digits = "".join(alphabet[int(digit) % 3] for digit in digits)
    wanted = rng.choice(alphabet)
    return Problem(
        key=f"{wanted} in {digits}",
        question=f"How many times does {wanted} occur in {digits}?",
        answer=str(digits.count(wanted)),
        solve=lambda: solve(wanted, digits),
    )


def solve(wanted: str, digits: str) -> Solution:
    """Go through the string and count.

    7 in 57277:
        count 7
        5:0
        7:1
        ...
    """
    lines = [f"count {wanted}"]
    lines += [f"{digit}:{digits[: i + 1].count(wanted)}" for i, digit in enumerate(digits)]
    return Solution(steps="\n".join(lines), boxed=str(digits.count(wanted)))


COUNTING = Family(
    name="counting",
    summary="how often a digit occurs in a string",
    options=frozenset({"max_string_digits"}),
    draw=draw,
)
