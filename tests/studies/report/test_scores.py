"""Scores of the last step beside the published ones; the paper's Tables 1 and 2 from its numbers alone."""

import pytest

from megatron_sft.studies.finding.find import find_published
from megatron_sft.studies.finding.findings import Findings
from megatron_sft.studies.report import words
from megatron_sft.studies.report.scores import score_table
from megatron_sft.studies.report.table import Table
from megatron_sft.studies.study import load


@pytest.fixture(scope="module")
def published() -> Findings:
    return find_published(load("paper"))


def table_of(findings: Findings, name: str) -> Table:
    (comparison,) = [c for c in findings.study.comparisons if c.name == name]
    table = score_table(findings, comparison)
    assert table is not None
    return table


def texts(table: Table, columns: list[str]) -> dict[str, list[str]]:
    places = [[column.title for column in table.columns].index(title) for title in columns]
    return {row[0].text: [row[place].text for place in places] for row in table.rows}


def test_ours_stands_beside_the_published_number(findings: Findings) -> None:
    table = table_of(findings, "the first two")
    base, traces, answers = table.rows
    assert [row[0].text for row in table.rows] == ["small", "traces", "answers"]
    assert base[1].small[-1] == "published 43.0"
    assert (traces[1].small[-1], traces[2].small[-1]) == ("published 63.0", "published 61.5*")
    curve = findings.trajectory("traces", "sums", "measured")
    assert curve is not None
    assert traces[1].text == f"{curve.curve.means[-1]:.1f}"
    assert (traces[1].tone, answers[2].tone, answers[3].tone) == ("up", "down", "")
    # Harm: lower is better.
    assert [column.title for column in table.columns][-1] == "Attack"
    assert answers[-1].tone == "down"


def cells(row: str) -> list[str]:
    """The cells of a row, with true minus signs."""
    return row.replace("-", words.MINUS).split()


COLUMNS = ["MATH-500", "AIME24", "LiveCodeBench v2", "GPQA-Diamond", "MMLU-Pro", "IFEval"]
COLUMNS += ["AlpacaEval 2.0 (reward model)", "HaluEval", "TruthfulQA (helpful)"]


def test_table_1_is_reproduced(published: Findings) -> None:
    found = texts(table_of(published, "repeated or fresh"), COLUMNS)
    assert found["14b-math-cot"] == cells("95.1 66.0 55.1 63.3 74.4 68.9 1.42 72.8 95.6")
    assert found["14b-repeated"] == cells("94.9 61.7 51.7 59.9 73.6 63.4 1.10 72.6 96.2")
    assert found["14b-fresh"] == cells("92.9 48.0 45.4 46.8 70.5* 59.8 0.93 75.2 86.3")


def test_table_2_is_reproduced(published: Findings) -> None:
    found = texts(table_of(published, "data 14B"), COLUMNS)
    assert found["Qwen3-14B-Base"] == cells("77.8 14.7 37.5 44.1* 61.8 64.2 0.53 54.7 94.4")
    assert found["14b-math-nocot"] == cells("82.4 17.0 40.3 48.3 69.1 71.7 2.11 70.9 100.0")
    assert found["14b-numina"] == cells("74.8 14.0 20.4 38.4 59.0 52.8 -0.45 62.7 88.6")
    assert found["14b-countdown"] == cells("91.5 41.7 43.8 53.0 65.4 61.3 1.36 72.3 92.4")
    found = texts(table_of(published, "data 8B"), COLUMNS)
    assert found["Qwen3-8B-Base"] == cells("76.8 12.0 29.1 39.7* 55.2 54.8 -0.13 50.5 84.6*")
    assert found["8b-numina"] == cells("72.5 7.0 7.9 37.2 48.2 37.8 -0.70 64.2 89.8")
    found = texts(table_of(published, "data InternLM"), COLUMNS)
    assert found["internlm-math-nocot"] == [*cells("57.9 5.0 17.9 35.7 48.3* 52.3*"), *["unreadable"] * 3]


def test_colours_say_what_is_told_apart_from_base(published: Findings) -> None:
    table = table_of(published, "data 14B")
    rows = {row[0].text: row for row in table.rows}
    places = [column.title for column in table.columns]
    tones = {arm: rows[arm][places.index("LiveCodeBench v2")].tone for arm in rows}
    assert tones["14b-math-cot"] == "up"
    assert tones["14b-math-nocot"] == ""
    assert tones["14b-numina"] == "down"
    # In doubt: no target, whatever it says.
    assert rows["Qwen3-14B-Base"][places.index("GPQA-Diamond")].tone == "open"


def test_arms_without_figures_are_named(published: Findings) -> None:
    table = table_of(published, "short runs")
    assert [row[0].text for row in table.rows] == ["Qwen3-14B-Base", "14b-math-cot"]
    assert "no figures of 14b-math-cot-1-epoch, 14b-math-cot-1-epoch-1e-5" in table.caption
    (qwen25,) = [c for c in published.study.comparisons if c.name == "Qwen2.5"]
    assert score_table(published, qwen25) is None
