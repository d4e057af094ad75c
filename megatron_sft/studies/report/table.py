"""A table as the page shows it: cells with lines of text, a tone, and what they are sorted by."""

from dataclasses import dataclass
from typing import Literal

Tone = Literal["", "up", "down", "mixed", "open"]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One cell."""

    text: str = ""
    small: tuple[str, ...] = ()
    """Lines beneath it: intervals and further figures."""
    tone: Tone = ""
    """Colour of the ground; `open` is faint. Never the only sign of what it says."""
    badge: str = ""
    """A verdict in front of the text."""
    sort: float | str | None = None
    """None: cells without a value, which stand last."""
    link: str = ""
    """Anchor on the page."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column."""

    title: str
    note: str = ""
    is_text: bool = False
    """Aligned to the left."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table; the first cell of a row is its heading."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    groups: tuple[tuple[str, int], ...] = ()
    """Headings over several columns and how many, the first column left out."""

    def __post_init__(self) -> None:
        """Check the shape."""
        assert all(len(row) == len(self.columns) for row in self.rows), self.caption
        assert not self.groups or sum(number for _, number in self.groups) == len(self.columns) - 1, self.caption


def label(text: str, *small: str, link: str = "") -> Cell:
    """A cell of text, sorted as such."""
    return Cell(text=text, small=small, sort=text.lower(), link=link)


def figure(text: str, value: float, *small: str, tone: Tone = "") -> Cell:
    """A cell with a number."""
    return Cell(text=text, small=small, sort=None if value != value else value, tone=tone)
