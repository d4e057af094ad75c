"""The tables behind the verdicts."""

import dataclasses

from megatron_sft.studies.finding.findings import Findings
from megatron_sft.studies.report import details


def test_differences_are_coloured_by_which_way_is_better(findings: Findings) -> None:
    table = details.difference_table(findings, findings.study.comparisons[1])
    assert table is not None
    rows = {row[1].text: row for row in table.rows}
    assert rows["Sorting"][0].text == "traces \N{MINUS SIGN} answers"
    assert (rows["Sorting"][4].text[0], rows["Sorting"][4].tone) == ("+", "up")
    # Less harm in the first arm is better.
    assert (rows["Attack"][4].text[0], rows["Attack"][4].tone) == ("\N{MINUS SIGN}", "up")
    assert rows["Sorting"][5].text == "640"


def test_lengths_say_where_they_turn(findings: Findings) -> None:
    table = details.length_table(findings)
    assert table is not None
    assert len(table.rows) == 16
    assert {row[4].text for row in table.rows} == {"rise and fall"}
    assert {row[5].text for row in table.rows} <= {"20", "40"}


def test_form_and_accuracy_sum_to_the_change(findings: Findings) -> None:
    table = details.form_table(findings)
    assert table is not None
    for row in table.rows:
        change, form, accuracy = (float(str(row[place].sort)) for place in (2, 3, 4))
        assert abs(change - form - accuracy) < 1e-9
        assert all(row[place].small[0].startswith("(") for place in (2, 3, 4))


def test_conditions_mark_what_differs_from_base(findings: Findings) -> None:
    table = details.condition_table(findings)
    place = [column.title for column in table.columns].index("learning rate")
    assert [(row[0].text, row[place].text, row[place].tone) for row in table.rows] == [
        ("traces", "0.001", ""),
        ("answers", "0.0001", "mixed"),
        ("toy", "0.0001", "mixed"),
        ("slow", "0.0001", "mixed"),
    ]


def test_times_are_summed_by_kind(findings: Findings) -> None:
    by_kind, stages = details.time_tables(findings)
    assert [[cell.text for cell in row] for row in by_kind.rows] == [
        ["data", "1", "12.2 s", "0.3 %"],
        ["train", "2", "1 h 19 min", "99.7 %"],
    ]
    assert "1 h 19 min" in by_kind.caption
    assert [row[3].text for row in stages.rows] == ["1", "2", "1"]


def test_power_and_provenance(findings: Findings) -> None:
    power, provenance = details.power_table(findings), details.provenance_table(findings)
    assert power is not None and provenance is not None
    assert [cell.text for cell in power.rows[1]] == ["Attack", "200", "2", "11.2", "assumed: 0.5"]
    assert [cell.text for cell in provenance.rows[0]] == ["commit", "0123abc"]


def test_tables_without_rows_are_left_out(findings: Findings) -> None:
    bare = dataclasses.replace(
        findings, trajectories=(), differences=(), asymmetries=(), power=(), times=(), provenance={}
    )
    assert details.difference_table(bare, bare.study.comparisons[0]) is None
    assert details.length_table(bare) is None
    assert details.form_table(bare) is None
    assert details.asymmetry_table(bare) is None
    assert details.power_table(bare) is None
    assert details.provenance_table(bare) is None
    assert details.time_tables(bare) == []
