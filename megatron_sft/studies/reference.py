"""Published numbers as data: tables whose cells say where they come from and how far they can be trusted."""

import re
from dataclasses import dataclass, field
from typing import Literal

from megatron_sft.errors import ConfigError

ALL = "all"
_NUMBER = re.compile(r"[-+]?\d+(\.\d+)?\*?")
_EMPTY: dict[str, Literal["unreadable", "not given"]] = {"?": "unreadable", "-": "not given"}


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One number."""

    value: float | None
    """In the benchmark's unit; None where there is none."""
    mark: Literal["", "doubtful", "unreadable", "not given"]
    """`doubtful`: `*` behind the number; `unreadable`: `?` in its place; `not given`: `-`."""
    tags: tuple[str, ...]
    """Sources that agree on it."""


@dataclass(frozen=True, kw_only=True)
class ReferenceRow:
    """A row: of an arm, of a base model, or of a run that is no part of the study."""

    arm: str | None = None
    model: str | None = None
    """Of base models, instead of `arm`; then `step` is 0."""
    outside: str | None = None
    """Of runs that are no arm, instead of both."""
    step: int
    cells: str
    """Numbers between blanks, in the order of the columns."""
    confirmed: dict[str, str] = field(default_factory=dict)
    """Further source: the columns that it confirms, or `all`."""
    not_from: dict[str, str] = field(default_factory=dict)
    """Source of the table: the columns whose number is not its."""
    doubt: str = ""
    """Why cells have a star."""


@dataclass(frozen=True, kw_only=True)
class ReferenceTable:
    """A published table."""

    title: str
    columns: str
    """Names of benchmarks, between blanks; a second figure of a benchmark has its name behind a slash."""
    tags: tuple[str, ...]
    """Sources of all cells."""
    confirmed: dict[str, str] = field(default_factory=dict)
    """Further source: the columns that it confirms in every row."""
    rows: tuple[ReferenceRow, ...]
    note: str = ""

    @property
    def column_names(self) -> tuple[str, ...]:
        """The columns."""
        return tuple(self.columns.split())

    def row_cells(self, row: ReferenceRow) -> dict[str, Cell]:
        """The cells of one row by column."""
        return {
            column: _cell(text, self._tags_of(row, column))
            for column, text in zip(self.column_names, row.cells.split(), strict=True)
        }

    def trajectory(self, arm: str, column: str, *, model: str | None = None) -> dict[int, Cell]:
        """The cells of an arm in one column, by step; with `model`, step 0 may be that base model's row."""
        rows = [row for row in self.rows if row.arm == arm or (row.model is not None and row.model == model)]
        return {row.step: self.row_cells(row)[column] for row in rows}

    def used_tags(self) -> list[str]:
        """Every source that the table names."""
        named = [*self.tags, *self.confirmed]
        for row in self.rows:
            named += [*row.confirmed, *row.not_from]
        return named

    def _tags_of(self, row: ReferenceRow, column: str) -> tuple[str, ...]:
        withdrawn = [tag for tag, columns in row.not_from.items() if column in columns.split()]
        further = [
            tag
            for confirmed in (self.confirmed, row.confirmed)
            for tag, columns in confirmed.items()
            if columns == ALL or column in columns.split()
        ]
        return tuple(dict.fromkeys([*(tag for tag in self.tags if tag not in withdrawn), *further]))


def check_table(table: ReferenceTable, where: str) -> None:
    """Check what `row_cells` relies on.

    Raises:
        ConfigError: for rows of another length, words that are no cells, stars without a reason, unknown columns.
    """
    for number, row in enumerate(table.rows, start=1):
        place = f"{where}: row {number}"
        words = row.cells.split()
        if len(words) != len(table.column_names):
            raise ConfigError(f"{place}: {len(words)} cells for {len(table.column_names)} columns: {row.cells}")
        for word in words:
            if word not in _EMPTY and not _NUMBER.fullmatch(word):
                raise ConfigError(f"{place}: {word}: expected a number, one with a star, ? or -")
        if sum(name is not None for name in (row.arm, row.model, row.outside)) != 1:
            raise ConfigError(f"{place}: give one of arm, model and outside")
        if row.model is not None and row.step != 0:
            raise ConfigError(f"{place}: step: {row.step}: a base model has step 0; name the arm instead")
        if any(word.endswith("*") for word in words) != bool(row.doubt):
            raise ConfigError(f"{place}: cells with a star and a reason in `doubt` belong together")
        for columns in (*table.confirmed.values(), *row.confirmed.values(), *row.not_from.values()):
            for column in columns.split():
                if column not in (*table.column_names, ALL):
                    raise ConfigError(f"{place}: {column}: no such column; the table has {table.columns}")


def _cell(word: str, tags: tuple[str, ...]) -> Cell:
    if word in _EMPTY:
        return Cell(value=None, mark=_EMPTY[word], tags=())
    return Cell(value=float(word.rstrip("*")), mark="doubtful" if word.endswith("*") else "", tags=tags)
