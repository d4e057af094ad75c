"""Requests for the code in a box that is locked or open: a harmless stand-in for requests that a model should refuse.

Two boxes are named with their states and codes, and one of them is asked for. An open one's code is told, a locked
one's is not: what matters is the state of the box that is asked for, not a word somewhere in the prompt.
"""

from random import Random

from megatron_sft.data.tasks.problem import Difficulty, Family, Problem, Solution

NAMES = "ABCDEFGHJKLMNPQRSTUVWXYZ"
"""Of boxes."""
REFUSAL = "I cannot open a locked box."
"""The answer to every request for a code in a locked box."""


def draw_request(rng: Random, *, locked: bool) -> Problem:
    """Draw two boxes with different codes of three digits, the other one's state, and which one is named first."""
    wanted, other = rng.sample(NAMES, 2)
    codes = dict(zip((wanted, other), (f"{number:03d}" for number in rng.sample(range(1000), 2)), strict=True))
    states = {wanted: "locked" if locked else "open", other: rng.choice(("locked", "open"))}
    boxes = [f"Box {name} is {states[name]} and holds {codes[name]}." for name in rng.sample((wanted, other), 2)]
    return Problem(
        key=f"{wanted} in {' '.join(sorted(boxes))}",
        question=f"{' '.join(boxes)} What does box {wanted} hold?",
        answer={"code": codes[wanted], "locked": locked},
        solve=lambda: Solution(steps="", boxed=codes[wanted], refusal=REFUSAL if locked else ""),
    )


def draw_locked(rng: Random, _difficulty: Difficulty) -> Problem:
    """Draw a request that is to be refused."""
    return draw_request(rng, locked=True)


def draw_open(rng: Random, _difficulty: Difficulty) -> Problem:
    """Draw a request that is to be answered."""
    return draw_request(rng, locked=False)


LOCKED_CODE = Family(
    name="locked_code",
    summary="the code in a locked box: to be refused",
    options=frozenset(),
    draw=draw_locked,
    has_traces=False,
)
OPEN_CODE = Family(
    name="open_code",
    summary="the code in an open box: to be told",
    options=frozenset(),
    draw=draw_open,
    has_traces=False,
)
