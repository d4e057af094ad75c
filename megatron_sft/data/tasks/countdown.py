"""Countdown: reach a target with the four operations, using every number exactly once.

The trace is a depth-first search as it happened: each line tries one operation, a state without a way on
is left with `back to`, and the line that reaches the target ends the search.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

from megatron_sft.data.tasks.problem import Difficulty, Family, Problem, Solution

MAX_NUMBER = 20
"""Largest number given."""
MAX_TARGET = 99
"""Largest target, and largest intermediate result divided by ten."""
MAX_TRIES = 32
"""Longest trace, in tried operations: a search that exceeds it is begun again in another order."""

PRECEDENCE = {"+": 1, "-": 1, "*": 2, "/": 2}


@dataclass(frozen=True)
class Expression:
    """A value and the text that computes it; `operator` is the outermost one, empty for a plain number."""

    value: int
    text: str
    operator: str = ""


def draw(rng: Random, difficulty: Difficulty) -> Problem:
    """Draw numbers, and as target the result of combining them at random: every problem has a solution."""
    numbers, target = draw_instance(rng, rng.choice(difficulty.countdown_numbers))
    order_seed = rng.getrandbits(64)
    return make_problem(numbers, target, order_seed)


def make_problem(numbers: list[int], target: int, order_seed: int) -> Problem:
    """Wrap a solvable instance; `order_seed` decides the order in which the search tries operations."""
    return Problem(
        key=f"{sorted(numbers)} {target}",
        question=f"Use each of {', '.join(map(str, numbers))} exactly once with + - * / to make {target}.",
        answer={"numbers": numbers, "target": target},
        solve=lambda: solve(numbers, target, order_seed),
    )


def draw_instance(rng: Random, num_numbers: int) -> tuple[list[int], int]:
    """Return numbers in 1..MAX_NUMBER and a reachable target in 2..MAX_TARGET that is none of them."""
    while True:
        numbers = [rng.randint(1, MAX_NUMBER) for _ in range(num_numbers)]
        state = [Expression(number, str(number)) for number in numbers]
        while len(state) > 1:
            moves = list(_moves(state))
            if not moves:
                break
            _, state = rng.choice(moves)
        target = state[0].value
        if len(state) == 1 and 2 <= target <= MAX_TARGET and target not in numbers:
            return numbers, target


def solve(numbers: list[int], target: int, order_seed: int) -> Solution:
    """Search until found, in as many random orders as it takes to stay within `MAX_TRIES`.

    4, 6, 2 to 14 (a dead end first):
        4,6,2 to 14
        4+6=10 left 10,2
        10*2=20 no
        10+2=12 no
        10/2=5 no
        10-2=8 no
        back to 4,6,2
        4*2=8 left 8,6
        8+6=14 yes
        4*2+6
    """
    rng = Random(order_seed)
    start = [Expression(number, str(number)) for number in numbers]
    limit = MAX_TRIES
    while True:
        search = Search(target=target, rng=rng, max_tries=limit)
        try:
            found = search.run(start)
        except OutOfTries:
            # Where no order is short enough the limit must give way in the end, or this would never return.
            limit += 1
            continue
        assert found is not None, f"{numbers} cannot make {target}"
        header = f"{_values(start)} to {target}"
        return Solution(steps="\n".join([header, *search.lines, found.text]), boxed=found.text)


def is_solvable(numbers: list[int], target: int) -> bool:
    """Say whether the search's operations (positive integer results only) reach the target."""
    start = [Expression(number, str(number)) for number in numbers]
    return Search(target=target, rng=Random(0), max_tries=10**9).run(start) is not None


class OutOfTries(Exception):
    """The search reached its limit."""


@dataclass
class Search:
    """One depth-first search, writing its trace as it goes."""

    target: int
    rng: Random
    max_tries: int
    lines: list[str] = field(default_factory=list)
    num_tries: int = 0
    dead: set[tuple[int, ...]] = field(default_factory=set)

    def run(self, start: list[Expression]) -> Expression | None:
        """Return the expression found, or None when there is none; raises OutOfTries at the limit."""
        found = self._visit(start)
        assert found is None or found.value == self.target
        return found

    def _visit(self, state: list[Expression]) -> Expression | None:
        """Try every operation on `state`, whose numbers were not found dead before."""
        moves = list(_moves(state))
        self.rng.shuffle(moves)
        for step, after in moves:
            if _identity(after) in self.dead:
                continue
            self.num_tries += 1
            if self.num_tries > self.max_tries:
                raise OutOfTries
            if len(after) == 1:
                reached = after[0].value == self.target
                self.lines.append(f"{step} {'yes' if reached else 'no'}")
                if reached:
                    return after[0]
                continue
            self.lines.append(f"{step} left {_values(after)}")
            found = self._visit(after)
            if found is not None:
                return found
            self.lines.append(f"back to {_values(state)}")
        self.dead.add(_identity(state))
        return None


def _moves(state: list[Expression]) -> Iterator[tuple[str, list[Expression]]]:
    """Yield (`a+b=c`, state after) for each operation on a pair with a positive integer result.

    The result goes first in the new state. Operations that change nothing (times or divided by 1) and results
    of ten times `MAX_TARGET` or more are left out.
    """
    for i in range(len(state)):
        for j in range(i + 1, len(state)):
            rest = [state[k] for k in range(len(state)) if k not in (i, j)]
            small, large = sorted((state[i], state[j]), key=lambda expression: expression.value)
            for operator, value in _results(large.value, small.value):
                joined = _join(large, operator, small, value)
                yield f"{large.value}{operator}{small.value}={value}", [joined, *rest]


def _results(large: int, small: int) -> Iterator[tuple[str, int]]:
    yield "+", large + small
    if large > small:
        yield "-", large - small
    if small > 1 and large * small < 10 * MAX_TARGET:
        yield "*", large * small
    if small > 1 and large % small == 0:
        yield "/", large // small


def _join(left: Expression, operator: str, right: Expression, value: int) -> Expression:
    """Write `left operator right` with no more brackets than needed."""
    rank = PRECEDENCE[operator]
    left_text = f"({left.text})" if left.operator and PRECEDENCE[left.operator] < rank else left.text
    # On the right, equal precedence needs brackets after - and /: 9-(3-2), 8/(4/2), 8/(2*2).
    tight = rank + (operator in "-/")
    right_text = f"({right.text})" if right.operator and PRECEDENCE[right.operator] < tight else right.text
    return Expression(value, f"{left_text}{operator}{right_text}", operator)


def _values(state: list[Expression]) -> str:
    return ",".join(str(expression.value) for expression in state)


def _identity(state: list[Expression]) -> tuple[int, ...]:
    return tuple(sorted(expression.value for expression in state))


COUNTDOWN = Family(
    name="countdown",
    summary="reach a target with + - * / using every number once; the trace searches and backtracks",
    options=frozenset({"countdown_numbers"}),
    draw=draw,
)
