"""When an output is the expected one, as LiveCodeBench decides it."""

from decimal import Decimal, InvalidOperation
from typing import Any


def difference(printed: str, expected: str) -> str | None:
    """Return where a program's output differs from the expected one; None when it does not.

    White space around the whole and around each line is ignored. Two lines are equal as text, or when both consist of
    numbers that are equal one by one as exact decimals.
    """
    lines, wanted = (_lines(text) for text in (printed, expected))
    if len(lines) != len(wanted):
        return f"{len(lines)} lines instead of {len(wanted)}"
    for number, (line, right) in enumerate(zip(lines, wanted, strict=True), start=1):
        if line != right and not _same_numbers(line, right):
            return f"line {number} is {line[:60]!r} instead of {right[:60]!r}"
    return None


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.strip().split("\n")]


def _same_numbers(line: str, right: str) -> bool:
    try:
        # Both may hold signalling NaNs, which raise when compared.
        return [Decimal(word) for word in line.split()] == [Decimal(word) for word in right.split()]
    except InvalidOperation:
        return False


def same_value(returned: Any, expected: Any) -> bool:
    """Return whether a function's value is the expected one, of JSON's types; a tuple counts as a list."""
    return bool(_as_lists(returned) == expected)


def _as_lists(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_as_lists(item) for item in value]
    return value
