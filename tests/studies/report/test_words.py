"""Figures as text."""

import math

import pytest

from megatron_sft.studies.finding.findings import Findings
from megatron_sft.studies.report import words


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3.14, "+3.1"),
        (-3.16, f"{words.MINUS}3.2"),
        (0.04, "0.0"),
        (-0.04, "0.0"),
        (1234.5, "+1,234.5"),
        (math.nan, words.NONE),
    ],
)
def test_changes_have_a_sign_unless_they_round_to_nothing(value: float, text: str) -> None:
    assert words.signed(value) == text


def test_intervals() -> None:
    assert words.interval(-1.25, 10, 2) == f"({words.MINUS}1.25 to 10.00)"
    assert words.signed_interval(-1, 10) == f"({words.MINUS}1.0 to +10.0)"


@pytest.mark.parametrize(
    ("seconds", "text"), [(12.25, "12.2 s"), (59.96, "60.0 s"), (754.0, "12 min 34 s"), (4000.0, "1 h 06 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert words.duration(seconds) == text


def test_steps_and_shares() -> None:
    assert words.steps((0, 10, 1280)) == "base, 10, 1,280"
    assert words.step(None, "never") == "never"
    assert words.share(0.125) == "12.5 %"
    assert words.share(None) == words.NONE


def test_columns_stand_by_group_and_their_average_last(findings: Findings) -> None:
    columns = ["safety", "attack", "out-of-domain", "words", "sums/strict", "sorting", "sums"]
    assert words.ordered(findings.study, columns) == [
        *("sums", "sums/strict", "sorting", "words"),
        *("out-of-domain", "attack", "safety"),
    ]
    assert words.column_title(findings.study, "sums/strict") == "Sums <of> digits: strict"
    assert words.column_title(findings.study, "safety") == "safety average"


def test_names_for_files_and_figures() -> None:
    assert words.slug('../<b>"Größe" 1') == "b-gr-e-1"
    assert words.slug("…") == "unnamed"
    assert words.one_line("a\nb\x07c") == "a b c"
    assert words.shortened("abcdef", 4) == "abc…"
