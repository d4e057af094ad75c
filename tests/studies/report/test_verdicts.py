"""The matrix of verdicts and the table of all curves."""

from megatron_sft.studies.finding.findings import Findings
from megatron_sft.studies.report.table import Table
from megatron_sft.studies.report.verdicts import curve_table, verdict_matrix


def cell(table: Table, arm: str, title: str) -> tuple[str, str, tuple[str, ...], str]:
    place = [column.title for column in table.columns].index(title)
    (row,) = [row for row in table.rows if row[0].text == arm]
    return row[place].badge, row[place].text, row[place].small, row[place].tone


def test_planted_shapes_are_named_with_their_figures(findings: Findings) -> None:
    table = verdict_matrix(findings, "measured")
    assert table is not None
    badge, change, lines, tone = cell(table, "traces", "Sums <of> digits")
    assert (badge, tone) == ("↘↗ dip and recovery", "up")
    curve = findings.trajectory("traces", "sums", "measured")
    assert curve is not None and curve.shape is not None
    assert change == f"+{curve.curve.means[-1] - curve.curve.means[0]:.1f}"
    low, high = curve.shape.dip.interval
    assert lines[1] == f"dip {curve.shape.dip.depth:.1f} ({low:.1f} to {high:.1f})"
    assert lines[2] == "at 20, back at 80"
    assert cell(table, "toy", "Sums <of> digits")[0] == "↓ decline"
    assert cell(table, "slow", "Sums <of> digits")[0] == "? not resolved"


def test_harm_that_rises_is_a_decline_with_its_own_sign(findings: Findings) -> None:
    table = verdict_matrix(findings, "measured")
    assert table is not None
    # The arm `answers` has the dip and recovery planted on `attack`: it ends 20 points above base.
    badge, change, _, tone = cell(table, "answers", "Attack")
    assert (badge, tone, change[0]) == ("↓ decline", "down", "+")
    badge, change, _, tone = cell(table, "slow", "Attack")
    assert (tone, change[0]) == ("up", "\N{MINUS SIGN}")


def test_columns_are_grouped(findings: Findings) -> None:
    table = verdict_matrix(findings, "measured")
    assert table is not None
    assert table.groups == (("in-domain", 1), ("out-of-domain", 3), ("safety", 1))
    published = verdict_matrix(findings, "published")
    assert published is not None
    assert [row[0].text for row in published.rows] == ["traces"]


def test_every_curve_has_a_row(findings: Findings) -> None:
    table = curve_table(findings, "measured")
    assert table is not None
    assert len(table.rows) == 20
    row = table.rows[0]
    assert [row[0].text, row[1].text, row[2].badge] == ["traces", "Sums <of> digits", "↘↗ dip and recovery"]
    assert row[9].text == "20"
