"""Families whose problems come from the reasoning-gym package (an optional dependency).

Only problems with an integer answer, or Countdown instances, are taken: their answers are checked by this
project's own exact checkers. reasoning-gym's Countdown scorer executes the text it is given, so no model's
answer is ever handed to it.
"""

from collections.abc import Callable
from functools import cached_property
from random import Random
from typing import Any

from megatron_sft.backends import import_reasoning_gym
from megatron_sft.data.tasks.countdown import MAX_NUMBER, MAX_TARGET, is_solvable, make_problem
from megatron_sft.data.tasks.problem import Difficulty, Family, Problem, Solution
from megatron_sft.errors import DataError, EnvironmentProblem

NUM_INDICES = 2**31
"""Problems are computed from their index when asked for; this many indices are drawn from."""


class GymDataset:
    """A reasoning-gym data set, made at the first draw, so that the package is imported only when it is used."""

    def __init__(self, name: str, **settings: int) -> None:
        self.name = name
        self.settings = settings

    @cached_property
    def _entries(self) -> Any:
        try:
            reasoning_gym = import_reasoning_gym()
        except ImportError as error:
            raise EnvironmentProblem(
                f"task gym_{self.name}: the package reasoning-gym cannot be imported ({error}): "
                'install the extra "eval", or leave the gym_ tasks out'
            ) from error
        return reasoning_gym.create_dataset(self.name, size=NUM_INDICES, seed=0, **self.settings)

    def draw(self, rng: Random) -> dict[str, Any]:
        """Return a random entry: `question`, `answer`, `metadata`."""
        entry: dict[str, Any] = self._entries[rng.randrange(NUM_INDICES)]
        return entry


def gym_chain_sum() -> Family:
    """Three numbers of at most two digits with + and -: the nearest family that addition traces do not cover."""
    dataset = GymDataset("chain_sum", min_terms=3, max_terms=3, min_digits=1, max_digits=2)

    def draw(rng: Random, _difficulty: Difficulty) -> Problem:
        entry = dataset.draw(rng)
        expression = entry["metadata"]["expression"]
        return _integer_problem(f"Compute {expression}.", expression, entry["answer"])

    return _family("gym_chain_sum", "three numbers with + and -, from reasoning-gym", draw)


def gym_gcd() -> Family:
    """The greatest common divisor of two numbers up to 200."""
    dataset = GymDataset("gcd", min_numbers=2, max_numbers=2, min_value=2, max_value=200)

    def draw(rng: Random, _difficulty: Difficulty) -> Problem:
        entry = dataset.draw(rng)
        a, b = entry["metadata"]["numbers"]
        question = f"What is the greatest common divisor of {a} and {b}?"
        return _integer_problem(question, f"{min(a, b)},{max(a, b)}", entry["answer"])

    return _family("gym_gcd", "greatest common divisor of two numbers, from reasoning-gym", draw)


def gym_countdown() -> Family:
    """reasoning-gym's Countdown instances of 3 and 4 numbers, with this project's prompt, search and checker."""
    dataset = GymDataset(
        "countdown", min_numbers=3, max_numbers=4, max_value=MAX_NUMBER, min_target=2, max_target=MAX_TARGET
    )

    def draw(rng: Random, _difficulty: Difficulty) -> Problem:
        while True:
            entry = dataset.draw(rng)["metadata"]
            # Some of its instances need a negative or broken intermediate result, which our search does not try.
            if is_solvable(entry["numbers"], entry["target"]):
                return make_problem(entry["numbers"], entry["target"], rng.getrandbits(64))

    return Family(
        name="gym_countdown",
        summary="Countdown with instances from reasoning-gym",
        options=frozenset(),
        draw=draw,
    )


def _integer_problem(question: str, key: str, answer: str) -> Problem:
    if not answer.removeprefix("-").isascii() or not answer.removeprefix("-").isdigit():
        raise DataError(f"reasoning-gym answers {answer!r} to {question!r}: expected an integer")
    return Problem(key=key, question=question, answer=answer, solve=lambda: Solution(steps="", boxed=answer))


def _family(name: str, summary: str, draw: Callable[[Random, Difficulty], Problem]) -> Family:
    return Family(name=name, summary=summary, options=frozenset(), draw=draw, has_traces=False)
