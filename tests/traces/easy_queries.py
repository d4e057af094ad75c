"""Sums and differences that a model of 135 million parameters gets right now and then, with three solved ones before.

Run as a program, it prints queries as JSON Lines: `python tests/traces/easy_queries.py 200 > queries.jsonl`.
"""

import json
import random
import sys
from typing import Any

SUFFIX = "\nPlease reason step by step, and put your final answer within \\boxed{}."
EXAMPLES = ((2, "+", 3), (9, "-", 4), (7, "+", 1))
LARGEST = 14


def easy_queries(num: int, seed: int = 0) -> list[dict[str, Any]]:
    """`num` different queries with id, question, answer and message, the same for the same seed."""
    possible = [(a, "+", b) for a in range(1, LARGEST + 1) for b in range(1, LARGEST + 1)]
    possible += [(a, "-", b) for a in range(1, LARGEST + 1) for b in range(1, a + 1)]
    shots = [turn for example in EXAMPLES for turn in (ask(*example), solve(*example))]
    drawn = random.Random(seed).sample([problem for problem in possible if problem not in EXAMPLES], num)
    return [
        {
            "id": f"{a}{sign}{b}",
            "question": f"What is {a} {sign} {b}?",
            "answer": str(result(a, sign, b)),
            "message": [*shots, ask(a, sign, b)],
        }
        for a, sign, b in drawn
    ]


def ask(a: int, sign: str, b: int) -> dict[str, str]:
    return {"role": "user", "content": f"What is {a} {sign} {b}?{SUFFIX}"}


def solve(a: int, sign: str, b: int) -> dict[str, str]:
    doing, total = ("Adding" if sign == "+" else "Taking away"), result(a, sign, b)
    trace = f"<think>\nI start with {a}. {doing} {b} gives {total}.\n</think>"
    return {"role": "assistant", "content": f"{trace}\n\n{a} {sign} {b} = \\boxed{{{total}}}"}


def result(a: int, sign: str, b: int) -> int:
    return a + b if sign == "+" else a - b


if __name__ == "__main__":
    for query in easy_queries(int(sys.argv[1])):
        print(json.dumps(query))
