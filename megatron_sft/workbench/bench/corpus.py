"""A corpus of long reasoning traces, made on the spot from a seed, for benchmarks of the data layer.

Rows are Countdown problems with a right answer in the box, but for 3 % with a wrong one and 1 % with none. Measured
over the 20 MB of seed 0 (886 rows) with Qwen3's tokenizer: 8,638 tokens a trace on average, the longest 58,366, 6.7 %
above 20,000; 2.53 bytes a token; 28 % of the pre-tokens are digits (10 % of the characters); the 1,000 most frequent
pre-tokens are 91 % of all, and the 6.9 million pre-tokens are 133,680 different ones: a cache of words helps, but must
bear many that come once. Writing takes about 0.07 seconds a megabyte on one core.
"""

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

from megatron_sft.workbench.bench.passages import PassageWriter

BYTES_PER_TOKEN = 2.58
"""Characters for a token, about: what turns a length drawn in tokens into a length of text."""
MEAN_TOKENS = 8000
"""Mean length of a trace in tokens of Qwen3's vocabulary."""
_SIGMA = 0.7
_MAX_TOKENS = 60_000
_SHARE_WRONG = 0.03
_SHARE_UNBOXED = 0.01
_QUESTIONS = [
    "Using the numbers {numbers}, make an expression that equals {target}. Use each number exactly once, with + - * / "
    "and brackets. Put the final expression within \\boxed{{}}.",
    "Use each of {numbers} exactly once with + - * / to make {target}.",
    "Countdown: numbers [{numbers}], target {target}. Please reason step by step, and put your final "
    "answer within \\boxed{{}}.",
]


def make_corpus(path: Path, megabytes: float, seed: int) -> int:
    """Write about `megabytes` * 10^6 bytes of JSON lines to `path`, and return the number of rows.

    Equal arguments give equal bytes. The file is written under a temporary name and renamed when it is whole.
    """
    temporary = path.with_name(path.name + ".partial")
    num_rows, size = 0, 0
    with temporary.open("wb") as file:
        for row in rows(seed):
            line = json.dumps(row, ensure_ascii=False).encode() + b"\n"
            file.write(line)
            num_rows, size = num_rows + 1, size + len(line)
            if size >= megabytes * 1e6:
                break
    temporary.replace(path)
    return num_rows


def rows(seed: int) -> Iterator[dict[str, Any]]:
    """Yield rows without end: `id`, `message`, `response` and `answer`, as `tools/build_shards` takes them."""
    rng = Random(seed)
    writer = PassageWriter(rng)
    num_rows = 0
    while True:
        numbers, target, expression = _draw_problem(writer, rng)
        question = writer.any_of(_QUESTIONS).format(numbers=", ".join(map(str, numbers)), target=target)
        trace = _write_trace(writer, rng, numbers, target)
        yield {
            "id": f"bench-{seed}-{num_rows}",
            "message": [{"role": "user", "content": question}],
            "response": f"<think>\n{trace}\n</think>\n\n{_final_answer(rng, numbers, target, expression)}",
            "answer": {"numbers": numbers, "target": target},
        }
        num_rows += 1


def _draw_problem(writer: PassageWriter, rng: Random) -> tuple[list[int], int, str]:
    """Numbers, a target that they reach and the expression that reaches it, every part in brackets."""
    while True:
        numbers = [writer.integer(99) for _ in range(3 + int(rng.random() * 4))]
        state = [(number, str(number)) for number in numbers]
        while len(state) > 1:
            a = state.pop(int(rng.random() * len(state)))
            b = state.pop(int(rng.random() * len(state)))
            a, b = max(a, b), min(a, b)
            symbol, value = writer.operation(a[0], b[0])
            state.append((value, f"({a[1]} {symbol} {b[1]})"))
        target, text = state[0]
        if 10 <= target <= 999 and target not in numbers:
            return numbers, target, text[1:-1]


def _write_trace(writer: PassageWriter, rng: Random, numbers: list[int], target: int) -> str:
    """Passages up to a length drawn from a log-normal distribution; each trace has its own mixture of them."""
    mu = math.log(MEAN_TOKENS) - _SIGMA**2 / 2
    tokens = min(math.exp(mu + _SIGMA * _normal(rng)), _MAX_TOKENS)
    # The passages and how often each comes on average; a trace varies every weight by up to a factor of four.
    passages: list[tuple[Callable[[], str], float]] = [
        (lambda: writer.search(numbers, target), 2.0),
        (writer.arithmetic, 2.0),
        (writer.algebra, 3.0),
        (writer.prose, 10.0),
        (writer.code, 0.6),
        (writer.table, 0.4),
        (writer.chinese, 0.2),
    ]
    weights = [weight * 4 ** (rng.random() - 0.5) for _, weight in passages]
    ends = [sum(weights[: i + 1]) / sum(weights) for i in range(len(weights))]
    parts, left = [], tokens * BYTES_PER_TOKEN
    while left > 0:
        point = rng.random()
        index = next(i for i, end in enumerate(ends) if point < end or i == len(ends) - 1)
        parts.append(passages[index][0]())
        parts.append("\n\n" if rng.random() < 0.8 else "\n")
        left -= len(parts[-2]) + 2
    return "".join(parts[:-1])


def _final_answer(rng: Random, numbers: list[int], target: int, expression: str) -> str:
    """The text after the trace; some are wrong and some lack a box, so that a build has rows to reject."""
    kind = rng.random()
    if kind < _SHARE_UNBOXED:
        return f"I could not find a way to make {target}."
    if kind < _SHARE_UNBOXED + _SHARE_WRONG:
        expression = " + ".join(map(str, numbers)) if sum(numbers) != target else f"{numbers[0]} + 1"
    elif kind < 0.5:
        expression = expression.replace("*", "\\times").replace("/", "\\div")
    return f"The numbers {', '.join(map(str, numbers))} make {target} as follows:\n\n\\boxed{{{expression}}}"


def _normal(rng: Random) -> float:
    """A draw from the standard normal distribution."""
    return math.sqrt(-2 * math.log(1 - rng.random())) * math.cos(2 * math.pi * rng.random())
