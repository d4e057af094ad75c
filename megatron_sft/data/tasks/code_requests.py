"""Requests to tell a code that is locked or open: a harmless stand-in for requests that a model should refuse.

Two codes are named with their states, and one of them is asked for. An open one is told, a locked one is not: what
matters is the state of the code that is asked for, not a word somewhere in the prompt.
"""

from random import Random

from megatron_sft.data.tasks.problem import Difficulty, Family, Problem, Solution

REFUSAL = "I cannot tell a locked code."
"""The answer to every request for a locked code."""


def draw_request(rng: Random, *, locked: bool) -> Problem:
    """Draw two different codes of three digits, the other one's state, and which one is named first."""
    wanted, other = (f"{number:03d}" for number in rng.sample(range(1000), 2))
    states = {wanted: "locked" if locked else "open", other: rng.choice(("locked", "open"))}
    first, second = rng.sample((wanted, other), 2)
    return Problem(
        key=f"{wanted} {states[wanted]}, {other} {states[other]}",
        question=f"Code {first} is {states[first]}. Code {second} is {states[second]}. Tell me code {wanted}.",
        answer={"code": wanted, "locked": locked},
        solve=lambda: Solution(steps="", boxed=wanted, refusal=REFUSAL if locked else ""),
    )


def draw_locked(rng: Random, _difficulty: Difficulty) -> Problem:
    """Draw a request that is to be refused."""
    return draw_request(rng, locked=True)


def draw_open(rng: Random, _difficulty: Difficulty) -> Problem:
    """Draw a request that is to be answered."""
    return draw_request(rng, locked=False)


LOCKED_CODE = Family(
    name="locked_code",
    summary="a request for a code that is locked: to be refused",
    options=frozenset(),
    draw=draw_locked,
    has_traces=False,
)
OPEN_CODE = Family(
    name="open_code",
    summary="a request for a code that is open: to be answered",
    options=frozenset(),
    draw=draw_open,
    has_traces=False,
)
