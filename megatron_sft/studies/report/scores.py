"""Scores of the last step, arms of one comparison beneath their base models: the form of the paper's Tables 1 and 2."""

from dataclasses import dataclass

from megatron_sft.studies.finding.findings import Findings, Trajectory
from megatron_sft.studies.reference import Cell as ReferenceCell
from megatron_sft.studies.report import words
from megatron_sft.studies.report.table import Cell, Column, Table, Tone
from megatron_sft.studies.study import ComparisonSpec


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row: an arm at its last step, or a base model."""

    arm: str
    """Of a base model, the first arm that starts from it."""
    name: str
    note: str
    step: int


def score_table(findings: Findings, comparison: ComparisonSpec) -> Table | None:
    """Scores of the base models and of the arms at the last step, ours beside the published ones; None without any."""
    rows = rows_of(findings, comparison)
    known = {
        (row, column)
        for row in rows
        for column in score_columns(findings, comparison)
        if has_value(findings, comparison, row, column)
    }
    columns = words.ordered(findings.study, (column for row, column in known if row.step))
    if not columns:
        return None
    shown = [row for row in rows if any((row, column) in known for column in columns)]
    missing = ", ".join(row.name for row in rows if row not in shown)
    return Table(
        caption=f"{words.one_line(comparison.name)}: scores of base and last step"
        + (f"; no figures of {missing}" if missing else ""),
        columns=(
            Column(title="arm", is_text=True),
            *(Column(title=words.column_title(findings.study, column)) for column in columns),
        ),
        rows=tuple(
            (
                Cell(text=row.name, small=(row.note,), sort=index),
                *(_cell(findings, comparison, row, column) for column in columns),
            )
            for index, row in enumerate(shown)
        ),
    )


def rows_of(findings: Findings, comparison: ComparisonSpec) -> list[Row]:
    """Each base model before the first arm that starts from it."""
    rows, models = [], set()
    for arm in comparison.arms:
        conditions = findings.study.conditions(arm)
        if conditions.model not in models:
            models.add(conditions.model)
            rows.append(Row(arm=arm, name=words.one_line(conditions.model), note="base", step=0))
        found = [t for t in findings.trajectories if t.arm == arm and t.origin == "measured"]
        last = max((t.curve.steps[-1] for t in found), default=conditions.last_step)
        note = f"{words.one_line(conditions.data_set)}, step {last:,}"
        rows.append(Row(arm=arm, name=words.one_line(arm), note=note, step=last))
    return rows


def score_columns(findings: Findings, comparison: ComparisonSpec) -> list[str]:
    """Columns and averages of which the arms have a curve, and those of published tables."""
    columns = [t.benchmark for t in findings.trajectories if t.arm in comparison.arms]
    columns += [name for table in findings.study.reference.values() for name in table.column_names if "/" not in name]
    wanted = comparison.benchmarks
    return [c for c in words.ordered(findings.study, columns) if not wanted or c.split("/")[0] in wanted]


def has_value(findings: Findings, comparison: ComparisonSpec, row: Row, column: str) -> bool:
    """Whether a cell would say anything."""
    cell = published_cell(findings, comparison, row, column)
    return _at(findings, row, column, "measured") is not None or (cell is not None and cell.value is not None)


def published_cell(findings: Findings, comparison: ComparisonSpec, row: Row, column: str) -> ReferenceCell | None:
    """The published number: of the table that the comparison is drawn in if it has one, else of one without doubt."""
    study, model = findings.study, findings.study.conditions(row.arm).model
    found: list[tuple[bool, ReferenceCell]] = []
    for table in study.reference.values():
        if column not in table.column_names:
            continue
        is_wanted = bool(comparison.drawn_in) and table.title.startswith(f"{comparison.drawn_in},")
        for there in table.rows:
            is_base = row.step == 0 and there.step == 0 and (there.model == model or there.arm == row.arm)
            if is_base or (row.step != 0 and there.arm == row.arm and there.step == row.step):
                found.append((is_wanted, table.row_cells(there)[column]))
    found.sort(key=lambda pair: (not pair[0], pair[1].value is None, pair[1].mark != ""))
    return found[0][1] if found else None


def published_text(cell: ReferenceCell, digits: int) -> str:
    """A published number with what is to be said of it."""
    if cell.value is None:
        return "unreadable" if cell.mark == "unreadable" else words.NONE
    return words.number(cell.value, digits) + ("*" if cell.mark == "doubtful" else "")


def _at(findings: Findings, row: Row, column: str, origin: str) -> tuple[Trajectory, int] | None:
    """A curve and the place of the row's step on it."""
    for t in findings.trajectories:
        if (t.arm, t.benchmark, t.origin) == (row.arm, column, origin) and row.step in t.curve.steps:
            return t, t.curve.steps.index(row.step)
    return None


def _cell(findings: Findings, comparison: ComparisonSpec, row: Row, column: str) -> Cell:
    """Ours with its interval, the change from base, and the published number; that alone where ours is missing."""
    published = published_cell(findings, comparison, row, column)
    unit = next((t.unit for t in findings.trajectories if t.benchmark == column), None)
    benchmark = findings.study.benchmarks.get(column.split("/")[0])
    digits = words.digits_of(unit or (benchmark.unit if benchmark else ""))
    measured = _at(findings, row, column, "measured")
    if measured is None:
        if published is None:
            return Cell(text=words.NONE)
        curve = _at(findings, row, column, "published")
        lines = _lines(*curve, digits) if curve is not None else []
        text = published_text(published, digits)
        tone: Tone = "open" if published.mark else resolved_tone(*curve) if curve else ""
        return Cell(text=text, small=tuple(lines), tone=tone, sort=published.value)
    trajectory, place = measured
    lines = _lines(trajectory, place, digits)
    if published is not None and published.value is not None:
        lines.append(f"published {published_text(published, digits)}")
    value = float(trajectory.curve.means[place])
    return Cell(text=words.number(value, digits), small=tuple(lines), tone=resolved_tone(trajectory, place), sort=value)


def _lines(trajectory: Trajectory, place: int, digits: int) -> list[str]:
    low, high = trajectory.curve.band()
    lines = [words.interval(low[place], high[place], digits)]
    if place == 0:
        return lines
    change, lower, upper = trajectory.change_at(place)
    return [*lines, f"{words.signed(change, digits)} {words.signed_interval(lower, upper, digits)}"]


def resolved_tone(trajectory: Trajectory, place: int) -> Tone:
    """Better or worse than base where the simultaneous band says so."""
    if place == 0:
        return ""
    low, high = (float(ends[place - 1]) for ends in trajectory.curve.contrasts.band())
    if low <= 0 <= high:
        return ""
    return "up" if (low > 0) == (trajectory.better == "higher") else "down"
