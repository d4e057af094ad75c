"""Passages of a long reasoning trace: searches, arithmetic, algebra, prose, code and tables, drawn without end.

Every draw goes through `Random.random`, whose sequence for a seed is the same in every version of Python.
"""

# Signs that look like letters are what real traces contain.
# ruff: noqa: RUF001

from collections.abc import Callable
from random import Random

from megatron_sft.workbench.bench.vocabulary import (
    ADJECTIVES,
    ADVERBS,
    CHINESE,
    LATEX_COMMANDS,
    NOUNS,
    OPENINGS,
    PLURALS,
    PREFIXES,
    SUFFIXES,
    SYLLABLES,
    SYMBOLS,
    VERBS,
    VERBS_ED,
    VERBS_ING,
    VERBS_S,
)


class PassageWriter:
    """Draws passages from one random stream; each method returns one piece of text."""

    def __init__(self, rng: Random) -> None:
        self._draw = rng.random
        self._sentences: list[Callable[[], str]] = [
            self._plain, self._numeric, self._reflective, self._mathematical, self._listing, self._conditional,
            self._named, self._question, self._wordy, self._aside, self._formula, self._formula, self._formula,
        ]  # fmt: skip

    def pick(self, choices: list[str]) -> str:
        """One of `choices`; in a tenth of the draws the first ones more often, rank r in proportion to about 1 / r."""
        draw = self._draw()
        if draw < 0.1:
            return choices[int((len(choices) + 1) ** (draw * 10)) - 1]
        return choices[int(draw * len(choices))]

    def any_of(self, choices: list[str]) -> str:
        """One of `choices`, each as often."""
        return choices[int(self._draw() * len(choices))]

    def integer(self, end: int) -> int:
        """An integer from 1 to `end`."""
        return 1 + int(self._draw() * end)

    def number(self) -> int:
        """An integer with as many small ones as large ones, up to some ten thousands."""
        return int(10 ** (self._draw() * 4.3)) + 1

    # ---- passages: a paragraph or a block each, without a final line break ----

    def prose(self) -> str:
        """Two to seven sentences."""
        draw, kinds = self._draw, self._sentences
        return " ".join([kinds[int(draw() * len(kinds))]() for _ in range(2 + int(draw() * 6))])

    def search(self, numbers: list[int], target: int) -> str:
        """Some lines of a Countdown search that does not arrive."""
        lines, draw, state = [], self._draw, list(numbers)
        for _ in range(3 + int(draw() * 9)):
            if len(state) < 2:
                lines.append(f"{state[0]} {'≠' if draw() < 0.3 else 'is not'} {target}, back to {_listed(numbers)}")
                state = list(numbers)
            a = state.pop(int(draw() * len(state)))
            b = state.pop(int(draw() * len(state)))
            a, b = max(a, b), min(a, b)
            symbol, value = self.operation(a, b)
            state.insert(0, value)
            kind = int(draw() * 4)
            if kind == 0:
                lines.append(f"{a}{symbol}{b}={value} left {','.join(map(str, state))}")
            elif kind == 1:
                lines.append(f"- {a} {symbol} {b} = {value}, remaining {_listed(state)}")
            elif kind == 2:
                lines.append(f"Try {a} {symbol} {b} = {value}. Then I have {_listed(state)} for {target}.")
            else:
                lines.append(f"  {a} {symbol} {b} → {value} | {abs(target - value)} away, {self.pick(ADVERBS)} no")
        return "\n".join(lines)

    def arithmetic(self) -> str:
        """A chain of exact calculations with fresh numbers."""
        draw, lines = self._draw, []
        for _ in range(1 + int(draw() * 5)):
            a, b, c = self.number(), self.integer(999), self.integer(99)
            kind = int(draw() * 6)
            if kind == 0:
                lines.append(f"{a} * {c} = {a * c}, and {a * c} + {b} = {a * c + b}.")
            elif kind == 1:
                tens, ones = c // 10 * 10, c % 10
                lines.append(f"{a} × {c} = {a} × {tens} + {a} × {ones} = {a * tens} + {a * ones} = {a * c}")
            elif kind == 2:
                lines.append(f"{a} mod {c}: {a} = {a // c}·{c} + {a % c}, so the remainder is {a % c}.")
            elif kind == 3:
                lines.append(f"{a}/{b} ≈ {a / b:.{1 + c % 4}f}, which is {'less' if a < b else 'more'} than {c}.")
            elif kind == 4:
                lines.append(f"{b}^2 = {b * b}, {b + 1}^2 = {(b + 1) ** 2}, the difference is {2 * b + 1}.")
            else:
                parity = "odd" if (a - b) % 2 else "even"
                lines.append(f"{a:,} - {b} - {c} = {a - b - c}; {self.pick(ADVERBS)} {a - b} is {parity}.")
        return "\n".join(lines)

    def algebra(self) -> str:
        """A derivation in LaTeX, inline or displayed."""
        draw, integer = self._draw, self.integer
        x, y = self.any_of(_VARIABLES), self.any_of(_VARIABLES)
        a, b, c, d = integer(12), integer(30), integer(144), integer(9)
        greek, other = self.any_of(LATEX_COMMANDS), self.any_of(LATEX_COMMANDS)
        kind = int(draw() * 7)
        if kind == 0:
            square = b * b + 4 * a * c
            return (
                f"\\[\n{a}{x}^2 + {b}{x} - {c} = 0 \\implies "
                f"{x} = \\frac{{-{b} \\pm \\sqrt{{{square}}}}}{{{2 * a}}}\n\\]\n"
                f"{self.sentence_start()} the {self.pick(NOUNS)} is ${b}^2 - 4 \\cdot {a} \\cdot (-{c}) = {square}$."
            )
        if kind == 1:
            return (
                f"Let ${x} = {y} + {a}$. Then ${x}^2 - {d}{x} = {y}^2 + {2 * a - d}{y} + {a * a - d * a}$, so "
                f"${x} \\equiv {c % (a + 1)} \\pmod{{{a + 1}}}$ {self.any_of(_TAILS)}."
            )
        if kind == 2:
            return (
                f"\\begin{{align*}}\n{a}{x} + {b}{y} &= {c} \\\\\n{d}{x} - {y} &= {a + d}\n\\end{{align*}}\n"
                f"Multiply by {b}: ${d * b}{x} - {b}{y} = {b * (a + d)}$, add: ${a + d * b}{x} = {c + b * (a + d)}$, "
                f"${x} = \\frac{{{c + b * (a + d)}}}{{{a + d * b}}}$."
            )
        if kind == 3:
            return (
                f"$$\\sum_{{{x}={a}}}^{{{b}}} \\{greek}_{{{x}}} \\leq \\int_{{{a}}}^{{{b}}} \\{other}({y})\\,d{y} + "
                f"\\mathcal{{O}}({x}^{{{d}}})$$ {self.sentence_start()} {self.any_of(_TAILS)}."
            )
        if kind == 4:
            return (
                f"$\\{greek}\\left({a}\\pi/{d}\\right) = \\{other}_{{{b}}}$ for ${x} \\in \\{{{a}, {b}, {c}\\}}$, and "
                f"$\\gcd({c}, {a * d}) \\mid {x}_{{{d}}}$ {self.any_of(_TAILS)}."
            )
        if kind == 5:
            return (
                f"{x} = {c} - {a}{y} ⇒ {a}{y} = {c} - {x} ⇒ {y} = ({c} - {x})/{a}; for {x} = {b} this gives "
                f"{y} = {(c - b) / a:.2f} {self.any_of(SYMBOLS)} {d}."
            )
        return (
            f"$P({x}) = ({x} - {a})({x} + {b}) = {x}^2 + {b - a}{x} - {a * b}$, $P({d}) = {(d - a) * (d + b)}$, "
            f"$P'({x}) = 2{x} + {b - a}$."
        )

    def code(self) -> str:
        """A short function in a fenced block, with invented names."""
        name, other, value = self.identifier(), self.identifier(), self.any_of(_VARIABLES)
        a, b = self.integer(50), self.number()
        noun = self.pick(NOUNS)
        if self._draw() < 0.6:
            return (
                f"```python\ndef {name}({value}, {other}={a}):\n    # {self.pick(VERBS)} the {noun}\n"
                f"    {noun}s = [{value} * i % {b} for i in range({other})]\n    for i, item in enumerate({noun}s):\n"
                f"        if item > {b // 2} and i != {a % 7}:\n            return {other} - item\n    return None\n\n"
                f"print({name}({b}))  # {b * a % 97}\n```"
            )
        return (
            f"```cpp\nint {name}(int {value}) {{\n  long long {other} = {b};\n  while ({value} % {a + 1} != 0) {{\n"
            f"    {other} += {value}++ * {a};\n  }}\n  return (int)({other} & 0x{b:x});\n}}\n```"
        )

    def table(self) -> str:
        """A Markdown table of values, or a list of cases."""
        draw = self._draw
        heads = [self.pick(NOUNS) for _ in range(2 + int(draw() * 3))]
        rows = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
        rows += [f"| {' | '.join([str(self.number()) for _ in heads])} |" for _ in range(2 + int(draw() * 5))]
        return "\n".join(rows)

    def chinese(self) -> str:
        """A line of Chinese phrases around a number."""
        return f"{self.any_of(CHINESE)}，{self.any_of(CHINESE)}{self.number()}，{self.any_of(CHINESE)}。"

    # ---- sentences ----

    def sentence_start(self) -> str:
        """An opening such as "Wait," or a capitalised adverb with comma."""
        if self._draw() < 0.75:
            return self.any_of(OPENINGS)
        return self.pick(ADVERBS).capitalize() + ","

    def identifier(self) -> str:
        """An invented name for code: snake case, camel case or with a number."""
        kind, first, second = int(self._draw() * 3), self.pick(NOUNS), self.name()
        if kind == 0:
            return f"{first}_{second.lower()}"
        return first + second if kind == 1 else f"{second.lower()}{self.integer(40)}"

    def name(self) -> str:
        """An invented name of two or three syllables, seldom seen twice."""
        any_of = self.any_of
        syllables = [any_of(SYLLABLES) for _ in range(2 + (self._draw() < 0.4))]
        return "".join(syllables).capitalize()

    def _phrase(self) -> str:
        """A noun with what belongs to it."""
        kind, pick = self._draw(), self.pick
        if kind < 0.35:
            return f"the {self._noun()}"
        if kind < 0.6:
            return f"the {pick(ADJECTIVES)} {self._noun()}"
        if kind < 0.7:
            return f"{self.integer(20)} {pick(PLURALS)}"
        if kind < 0.85:
            return f"the {self.coined()} {pick(NOUNS)}"
        if kind < 0.92:
            return f"the {pick(PLURALS)} of the {pick(NOUNS)}"
        return f"{self.coined()} {self.any_of(PLURALS)}"

    def _noun(self) -> str:
        """A noun, more often an invented one than not, so that rare words are as many as in real text."""
        draw = self._draw()
        if draw < 0.4:
            return self.pick(NOUNS)
        return self.coined() if draw < 0.6 else self.name()

    def coined(self) -> str:
        """A word made of a stem and endings, such as "recountable" or "pseudofactorisation"."""
        any_of = self.any_of
        return any_of(PREFIXES) + any_of(NOUNS if self._draw() < 0.6 else VERBS) + any_of(SUFFIXES)

    def _wordy(self) -> str:
        pick = self.pick
        return (
            f"{self.sentence_start()} {pick(VERBS_ING)} {self._phrase()} {pick(ADVERBS)} {pick(VERBS_S)} "
            f"{pick(ADJECTIVES)} {pick(PLURALS)}, whereas {pick(ADJECTIVES)} {self.coined()} {pick(PLURALS)} "
            f"{pick(VERBS)} {self._phrase()}."
        )

    def _aside(self) -> str:
        pick = self.pick
        return (
            f"{pick(PLURALS).capitalize()} {pick(VERBS)} {pick(PLURALS)} ({pick(ADVERBS)} "
            f"{pick(ADJECTIVES)}), and {self._phrase()} of {self.name()} and {self.name()} "
            f"{pick(VERBS_ED)} {self._phrase()}."
        )

    def _plain(self) -> str:
        pick = self.pick
        return (
            f"{self.sentence_start()} {self._phrase()} {pick(VERBS_S)} {self._phrase()}, {pick(ADVERBS)} we "
            f"{pick(VERBS)} {self._phrase()}."
        )

    def _numeric(self) -> str:
        a, b = self.number(), self.integer(99)
        return (
            f"{self.sentence_start()} {a} and {b} {self.pick(VERBS)} {self._phrase()}: {a} + {b} = {a + b}, "
            f"{self.pick(ADVERBS)} {abs(a - b)}."
        )

    def _reflective(self) -> str:
        pick = self.pick
        return (
            f"I {pick(VERBS_ED)} {self._phrase()}, but {self._phrase()} of {self.name()} is {pick(ADJECTIVES)}, so "
            f"{pick(VERBS_ING)} it {pick(ADVERBS)} does not help."
        )

    def _mathematical(self) -> str:
        x, a = self.any_of(_VARIABLES), self.integer(60)
        return (
            f"If ${x} {self.any_of(_RELATIONS)} {a}$ then {self._phrase()} {self.pick(VERBS_S)} ${x}_{{{a % 9}}}$, "
            f"{self.any_of(_TAILS)}."
        )

    def _formula(self) -> str:
        any_of = self.any_of
        f, g, x, y = self.name()[:3].lower(), self.name(), any_of(_VARIABLES), any_of(_VARIABLES)
        return (
            f"{self.sentence_start()} \\({f}({x}+{y}) {any_of(_RELATIONS)} {f}({x}) - "
            f"\\{any_of(LATEX_COMMANDS)}({y})\\) on $\\mathrm{{{g}}}({x}^{{{y}}}, {f}_{{{x}{y}}})$, {any_of(_TAILS)}."
        )

    def _listing(self) -> str:
        numbers = [self.integer(300) for _ in range(3 + int(self._draw() * 5))]
        return f"The {self.pick(PLURALS)} are {_listed(numbers)}, and their {self.pick(NOUNS)} is {sum(numbers)}."

    def _conditional(self) -> str:
        pick = self.pick
        return (
            f"{self.sentence_start()} if we {pick(VERBS)} {self._phrase()} and {pick(VERBS)} {self._phrase()}, "
            f"it's {pick(ADJECTIVES)} that {self._phrase()} {pick(VERBS_S)}."
        )

    def _named(self) -> str:
        pick = self.pick
        return (
            f"{self.name()}'s {pick(NOUNS)} ({self.integer(2024)}) {pick(VERBS_S)} {self._phrase()} of "
            f"{self.name()} {self.any_of(SYMBOLS)} {self.number()}."
        )

    def _question(self) -> str:
        pick = self.pick
        return (
            f"{self.sentence_start()} can {self._phrase()} {pick(VERBS)} {self.number()}? "
            f"{pick(ADVERBS).capitalize()} {pick(VERBS_ING)} {self._phrase()} {pick(VERBS_S)} "
            f"{pick(ADJECTIVES)}."
        )

    def operation(self, a: int, b: int) -> tuple[str, int]:
        """An operation on `a` >= `b` >= 1 and its result, a positive integer."""
        kind = int(self._draw() * 4)
        if kind == 0 and a % b == 0:
            return "/", a // b
        if kind == 1 and a * b < 5000:
            return "*", a * b
        return ("-", a - b) if kind == 2 and a > b else ("+", a + b)


_VARIABLES = ["x", "y", "z", "n", "k", "m", "a", "b", "t", "p", "q", "r", "s", "u", "v"]
_RELATIONS = ["=", "<", ">", "\\leq", "\\geq", "\\neq", "\\equiv", "\\mid"]
_TAILS = [
    "which is what we need", "a contradiction", "as required", "so this works", "and that fails", "by symmetry",
    "for all of them", "unless it is zero", "without loss of generality", "which cannot happen", "so we are done here",
    "as before", "up to order",
]  # fmt: skip


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))
