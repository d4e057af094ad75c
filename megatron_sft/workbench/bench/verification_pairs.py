"""Pairs of a gold answer and a boxed one: real answers of models, and gold answers with seeded changes."""

import gzip
import json
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from megatron_sft._native import answer_text, last_boxed
from megatron_sft.errors import ConfigError

Pair = tuple[str, str]

GOLD_FILES = (
    "math500.jsonl",
    "olympiadbench.jsonl.gz",
    "minerva_math.jsonl",
    "aime24.jsonl",
    "aime25.jsonl",
    "amc23.jsonl",
)
MOST_WORD_PROBLEMS = 400
"""Answers of GSM8K among the golds: all are plain integers, and more of them would crowd out the rest."""


def make_pairs(num_pairs: int, seed: int, shared: Path | None) -> list[tuple[str, Pair]]:
    """`num_pairs` distinct pairs with their kind: real (up to 40 %), the rest respelt, same and wrong in thirds.

    `shared` is a folder with `eval/` and `traces/`; without it all golds are generated and there are no real pairs.
    """
    rng = random.Random(seed)
    real = sorted(set(real_pairs(shared))) if shared else []
    rng.shuffle(real)
    chosen = [("real", pair) for pair in real[: num_pairs * 2 // 5]]
    golds = sorted(
        {*(real_golds(shared) if shared else ()), *(made_gold(rng) for _ in range(max(50, num_pairs // 12)))}
    )
    taken = {pair for _, pair in chosen}
    makers: list[tuple[str, Callable[[random.Random, str, list[str]], Pair]]] = [
        ("respelt", lambda rng, gold, _: (gold, respelt(rng, gold))),
        ("same", lambda rng, gold, _: (gold, gold)),
        ("wrong", lambda rng, gold, golds: (gold, wrong(rng, gold, golds))),
    ]
    turn = failures = 0
    while len(chosen) < num_pairs:
        kind, maker = makers[turn % 3]
        pair = maker(rng, rng.choice(golds), golds)
        if pair in taken:
            # The equal pairs run out first: a fresh gold makes a fresh one.
            failures += 1
            if failures % 20 == 0:
                golds.append(made_gold(rng))
            continue
        taken.add(pair)
        chosen.append((kind, pair))
        turn += 1
    rng.shuffle(chosen)
    return chosen


def real_pairs(shared: Path) -> Iterator[Pair]:
    """Gold answers with what models boxed."""
    for row in _rows(shared / "eval" / "math_cot_100_qwen25_graded.jsonl.gz"):
        for response in row["code"]:
            boxed = last_boxed(response)
            if boxed is not None:
                yield row["answer"], boxed
    golds = [(row["problem"].strip(), row["answer"]) for row in _rows(shared / "eval" / "math500.jsonl")]
    for name in ("unireason_sft_math500.jsonl.gz", "unireason_rl_math500.jsonl.gz"):
        for row in _rows(shared / "traces" / name):
            boxed = last_boxed(answer_text(row["output"]))
            gold = next((answer for problem, answer in golds if problem in row["input"]), None)
            if boxed is not None and gold is not None:
                yield gold, boxed
    for row in _rows(shared / "traces" / "thought_anchors_math_base_solutions.jsonl.gz"):
        boxed = last_boxed(row["solution"])
        if boxed is not None:
            yield row["problem_meta"]["gt_answer"], boxed


def real_golds(shared: Path) -> Iterator[str]:
    """Gold answers of the benchmarks."""
    for name in GOLD_FILES:
        for row in _rows(shared / "eval" / name):
            yield from _golds_of(row)
    for row in list(_rows(shared / "eval" / "gsm8k_train.jsonl.gz"))[:MOST_WORD_PROBLEMS]:
        yield row["answer"].rpartition("#### ")[2].strip()


def _golds_of(row: dict[str, Any]) -> list[str]:
    if "final_answer" in row:
        return [str(answer) for answer in row["final_answer"]]
    if "answer" in row:
        answer = row["answer"]
        return [str(int(answer)) if isinstance(answer, float) and answer == int(answer) else str(answer)]
    boxed = last_boxed(row["solution"])
    return [boxed.strip()] if boxed else []


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    opener = gzip.open if path.suffix == ".gz" else open
    if not path.exists():
        raise ConfigError(f"{path} is missing: --shared is a folder with eval/ and traces/")
    with opener(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def made_gold(rng: random.Random) -> str:
    """An answer as textbooks have it, most often a number."""

    def number(low: int = 2, high: int = 99) -> int:
        return rng.randint(low, high)

    sign = rng.choice(["", "", "-"])
    shapes = [
        f"{sign}{number(0, 9)}",
        f"{sign}{number(10, 999)}",
        f"{number(1000, 99999999)}",
        f"{number(1, 999)},{number(100, 999)}",
        f"{sign}\\frac{{{number()}}}{{{number()}}}",
        f"{sign}{number()}/{number()}",
        f"{sign}{number(0, 99)}.{number(0, 999)}",
        f"{number()}\\%",
        f"{number()}^\\circ",
        f"\\${number()}.{number(10, 99)}",
        f"{sign}{number()}\\sqrt{{{number()}}}",
        f"{number()}{rng.choice('+-')}{number()}\\sqrt{{{number()}}}",
        f"\\frac{{{sign}{number()}\\sqrt{{{number(2, 30)}}}}}{{{number()}}}",
        f"\\frac{{{number()}+\\sqrt{{{number()}}}}}{{{number()}}}",
        f"{number()}\\pi",
        f"\\frac{{{number()}\\pi}}{{{number()}}}",
        f"({sign}{number(0, 9)}, {number()})",
        f"({number(0, 9)}, {number(0, 9)}, {sign}{number(0, 9)})",
        f"[{number(0, 9)}, {number(10, 30)})",
        f"(-\\infty, {number(0, 9)}] \\cup [{number(10, 20)}, \\infty)",
        f"\\{{{number()}, {number()}, {number()}\\}}",
        f"{number()}, {sign}{number()}",
        f"x={sign}{number()}",
        f"{number()}x+{number()}",
        f"{number()}x^2-{number()}x+{number()}",
        f"(x-{number(1, 9)})(x+{number(1, 9)})",
        f"y={number()}x-{number()}",
        f"{number(2, 9)}^{{{number(2, 30)}}}",
        f"{number(2, 9)}\\cdot {number(2, 9)}^{{{number(2, 12)}}}",
        f"{number()} \\text{{ cm}}",
        f"\\text{{({rng.choice('ABCDE')})}}",
        f"{rng.choice('ABCDE')}",
        f"{number()}{sign or '+'}{number()}i",
    ]
    # Half of all answers are small integers, as in the benchmarks.
    return rng.choice(shapes) if rng.random() < 0.75 else shapes[1]


def respelt(rng: random.Random, gold: str) -> str:
    """The same answer in other letters, as models vary it: not always one that math-verify accepts."""
    changes: list[Callable[[str], str]] = [
        lambda text: text.replace("\\frac", "\\dfrac"),
        lambda text: text.replace("\\frac", "\\tfrac"),
        lambda text: re.sub(r"\\frac\{(-?\d+)\}\{(\d+)\}", r"\1/\2", text),
        lambda text: re.sub(r"\\frac\{(\d)\}\{(\d)\}", r"\\frac\1\2", text),
        lambda text: re.sub(r"^(-?\d+)/(\d+)$", r"\\frac{\1}{\2}", text),
        lambda text: re.sub(r"\\frac\{(-?\d+)\}\{(\d+)\}", _as_decimal, text),
        lambda text: (
            text.replace("(", "\\left(").replace(")", "\\right)") if not re.search(r"\\left|\[", text) else text
        ),
        lambda text: text.replace("\\left", "").replace("\\right", ""),
        lambda text: text.replace(", ", ",") if ", " in text else text.replace(",", ", "),
        lambda text: re.sub(r"(?<=[+=-])", " ", re.sub(r"(?=[+=-])", " ", text)),
        # The space behind a command ends it.
        lambda text: re.sub(r"(?<![a-zA-Z]) ", "", text),
        lambda text: f" {text} ",
        lambda text: f"\\text{{{text}}}" if text.isalpha() else text,
        # Seldom seen in boxes.
        lambda text: f"{text}." if rng.random() < 0.1 else text,
        lambda text: f"${text}$" if rng.random() < 0.2 else text,
        lambda text: re.sub(r"^(-?\d+)$", r"\1.0", text),
        lambda text: re.sub(r"^(\d+)(\d{3})$", r"\1,\2", text),
        lambda text: re.sub(r"^(\d+)(\d{3})$", r"\1{,}\2", text),
        lambda text: re.sub(
            r"^(-?\d+)$", lambda match: f"{match[1]} \\text{{ {rng.choice(['cm', 'units', 'dollars'])}}}", text
        ),
        lambda text: re.sub(r"^(-?\d+)$", rf"{rng.choice('xynk')}=\1", text),
        lambda text: re.sub(r"^([a-z])\s*=\s*(.+)$", r"\2", text),
        lambda text: text.replace("\\cdot", "\\times"),
        lambda text: (
            text.replace("^\\circ", "^{\\circ}") if "^\\circ" in text else text.replace("^{\\circ}", "^\\circ")
        ),
        lambda text: text.replace("^\\circ", " \\text{ degrees}"),
        lambda text: re.sub(r"(\d+)\\sqrt\{(\d+)\}", lambda m: f"\\sqrt{{{int(m[1]) ** 2 * int(m[2])}}}", text),
        lambda text: re.sub(r"\\sqrt\{(\d)\}", r"\\sqrt\1", text),
        lambda text: re.sub(r"\\frac\{(\d+)\}\{(\d+)\}", _doubled, text),
        lambda text: text.replace("\\%", "%") if "\\%" in text else text.replace("%", "\\%"),
        lambda text: re.sub(r"(\d+)\\%", lambda m: f"{int(m[1]) / 100}", text),
        lambda text: re.sub(r"^\\text\{\((\w)\)\}$", r"\1", text),
        lambda text: re.sub(r"^([A-E])$", r"\\text{(\1)}", text),
        lambda text: re.sub(r"^(\d+)x\+(\d+)$", r"\2+\1x", text),
        lambda text: ",".join(reversed(text.split(","))) if re.fullmatch(r"[-\d,\s]+", text) else text,
        lambda text: f"{text} = {text}" if re.fullmatch(r"-?\d+", text) else text,
    ]
    rng.shuffle(changes)
    text = gold
    for change in changes:
        changed = change(text)
        if changed != text:
            text = changed
            if rng.random() < 0.6:
                break
    return text


def wrong(rng: random.Random, gold: str, golds: list[str]) -> str:
    """Another answer: the gold with a number, sign, operator or letter changed, or the answer of another question."""
    changes: list[Callable[[], str]] = [
        lambda: _with_number(rng, gold, lambda n: str(n + rng.choice([1, 2, 10]))),
        lambda: _with_number(rng, gold, lambda n: str(abs(n - 1))),
        lambda: _with_number(rng, gold, lambda n: str(n * 2)),
        lambda: _with_number(rng, gold, lambda n: str(rng.randint(0, 999))),
        lambda: _with_other_sign(gold),
        lambda: gold.replace("+", "-", 1) if "+" in gold else re.sub(r"-(?!\\infty)", "+", gold, count=1),
        lambda: re.sub(r",[^,()\[\]{}\\]*(?=[)\]}\\]*$)", "", gold),
        lambda: gold.replace("\\sqrt", "", 1),
        lambda: re.sub(r"^\((?=.*,)", "[", gold) if gold.startswith("(") else re.sub(r"^\[(?=.*,)", "(", gold),
        lambda: gold.replace("x", "y", 1),
        lambda: respelt(rng, rng.choice(golds)),
        lambda: respelt(rng, rng.choice(golds)),
        lambda: rng.choice(golds),
    ]
    while True:
        text = rng.choice(changes)()
        if text.strip() and text != gold:
            return text if rng.random() < 0.5 else respelt(rng, text)


def _with_number(rng: random.Random, text: str, change: Callable[[int], str]) -> str:
    numbers = list(re.finditer(r"\d+", text))
    if not numbers:
        return text
    number = rng.choice(numbers)
    return text[: number.start()] + change(int(number[0])) + text[number.end() :]


def _with_other_sign(text: str) -> str:
    if text.startswith("-"):
        return text[1:]
    return text if re.search(r"[=,<>]|\\in|\\text", text) else f"-{text}"


def _as_decimal(match: re.Match[str]) -> str:
    return f"{int(match[1]) / int(match[2]):.6g}" if int(match[2]) else match[0]


def _sized(match: re.Match[str]) -> str:
    return "\\left(" if match[0] == "(" else "\\right)"


def _doubled(match: re.Match[str]) -> str:
    return f"\\frac{{{2 * int(match[1])}}}{{{2 * int(match[2])}}}"
