"""Figures as text: units, signs, intervals, steps; and the names of columns and arms."""

import math
import re
from collections.abc import Iterable

from megatron_sft.studies.study import Study

MINUS = "\N{MINUS SIGN}"
NONE = "\N{EN DASH}"
GROUPS = ("in-domain", "out-of-domain", "general", "safety")


def number(value: float, digits: int = 1) -> str:
    """A number with a true minus sign; one that rounds to 0 has none."""
    if not math.isfinite(value):
        return NONE
    text = f"{value:,.{digits}f}"
    return text.replace("-", MINUS if float(text.replace(",", "")) else "")


def signed(value: float, digits: int = 1) -> str:
    """A change, with its sign; one that rounds to 0 has none."""
    text = number(value, digits)
    return text if text.startswith((MINUS, NONE)) or not float(text.replace(",", "")) else f"+{text}"


def interval(low: float, high: float, digits: int = 1) -> str:
    """An interval of a number."""
    return f"({number(low, digits)} to {number(high, digits)})"


def signed_interval(low: float, high: float, digits: int = 1) -> str:
    """An interval of a change."""
    return f"({signed(low, digits)} to {signed(high, digits)})"


def digits_of(unit: str) -> int:
    """Decimals: a judge's or a reward model's points are small numbers."""
    return 2 if unit == "points" else 1


def share(value: float | None, digits: int = 1) -> str:
    """A share, 0 to 1, in per cent."""
    return NONE if value is None or math.isnan(value) else f"{number(100 * value, digits)} %"


def step(value: int | None, otherwise: str = NONE) -> str:
    """An optimizer step."""
    return otherwise if value is None else "base" if value == 0 else f"{value:,}"


def steps(values: Iterable[int]) -> str:
    """A list of steps."""
    return ", ".join(step(value) for value in values)


def duration(seconds: float) -> str:
    """Wall time."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def column_title(study: Study, column: str) -> str:
    """The title of a column: of a benchmark, of one of its figures, or of a group's average."""
    if column in GROUPS:
        return f"{column} average"
    benchmark, _, figure = column.partition("/")
    title = study.benchmarks[benchmark].title if benchmark in study.benchmarks else benchmark
    return f"{title}: {figure}" if figure else title


def ordered(study: Study, columns: Iterable[str]) -> list[str]:
    """Columns by group, within one in the study's order, further figures behind their benchmark, the average last."""
    benchmarks = list(study.benchmarks)

    def place(column: str) -> tuple[int, bool, int, str]:
        if column in GROUPS:
            return GROUPS.index(column), True, 0, column
        benchmark = column.split("/")[0]
        return GROUPS.index(study.benchmarks[benchmark].group), False, benchmarks.index(benchmark), column

    return sorted(set(columns), key=place)


def slug(text: str) -> str:
    """A name for files and anchors, of letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40].strip("-") or "unnamed"


def one_line(text: str) -> str:
    """A name without line breaks, tabs and signs that no SVG may hold."""
    return "".join(c if c.isprintable() else " " for c in text)


def shortened(text: str, length: int) -> str:
    """A name that has room in a figure."""
    text = one_line(text)
    return text if len(text) <= length else f"{text[: length - 1]}…"
