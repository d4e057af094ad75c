"""Which curves, differences and parts are drawn, and what is said of them to those who do not see them."""

import dataclasses

import numpy as np

from megatron_sft.studies.analysis.comparisons import Differences
from megatron_sft.studies.finding.findings import Findings
from megatron_sft.studies.report.asymmetry import asymmetry_drawing
from megatron_sft.studies.report.contrasts import difference_drawing
from megatron_sft.studies.report.form import form_drawing
from megatron_sft.studies.report.trajectories import resolved_steps, trajectory_drawing


def test_curves_have_a_panel_for_each_column(findings: Findings) -> None:
    drawing = trajectory_drawing(findings, ["traces", "toy"], key="k", title="t")
    assert drawing is not None
    titles = ["Sums <of> digits", "Sorting", "Words", "out-of-domain average", "Attack"]
    assert [panel.title for panel in drawing.panels] == titles
    assert [(entry.name, entry.is_dashed) for entry in drawing.legend] == [("traces", False), ("toy", False)]
    # Scores, lengths, shares cut off; an average has no lengths.
    assert [len(panel.rows) for panel in drawing.panels] == [3, 3, 3, 1, 3]
    assert drawing.panels[4].note == "per cent, lower is better"
    assert "traces (published) from 43.0 to 63.0, dip and recovery" in drawing.panels[0].alt
    assert "beside a measured curve they have no band" in drawing.caption


def test_curves_of_two_points_are_left_to_the_tables(findings: Findings) -> None:
    assert trajectory_drawing(findings, ["nobody"], key="k", title="t") is None
    drawing = trajectory_drawing(findings, ["traces"], key="k", title="t", benchmarks=["attack"])
    assert drawing is not None
    assert [panel.title for panel in drawing.panels] == ["Attack"]


def test_published_curves_alone_are_dashed(findings: Findings) -> None:
    alone = dataclasses.replace(
        findings, trajectories=tuple(t for t in findings.trajectories if t.origin == "published")
    )
    drawing = trajectory_drawing(alone, ["traces"], key="k", title="t")
    assert drawing is not None
    assert [entry.is_dashed for entry in drawing.legend] == [True]


def test_full_markers_are_what_the_common_band_tells_apart(findings: Findings) -> None:
    curve = findings.trajectory("traces", "sums", "measured")
    assert curve is not None
    assert {20, 640} <= resolved_steps(curve) < {10, 20, 40, 80, 160, 320, 640}
    assert resolved_steps(dataclasses.replace(curve, shape=None)) == set()


def test_differences_are_curves_or_points(findings: Findings) -> None:
    steps, last = findings.study.comparisons
    curves = difference_drawing(findings, steps, key="k")
    points = difference_drawing(findings, last, key="k")
    assert curves is not None and points is not None
    assert len(curves.panels) == 4
    # The colour of the arm that the first one is compared with.
    minus = "\N{MINUS SIGN}"
    found = [(entry.name, entry.number) for entry in curves.legend]
    assert found == [(f"traces {minus} answers", 1), (f"traces {minus} toy", 2)]
    assert [panel.title for panel in points.panels] == ["traces \N{MINUS SIGN} answers"]
    assert "each for itself" in points.caption


def test_a_single_step_stands_beside_curves(findings: Findings) -> None:
    one = np.array([5.0])
    at_end = Differences(steps=(640,), estimate=one, stderr=one, lower=one - 2, upper=one + 2)
    changed = [
        dataclasses.replace(d, differences=at_end) if d.second == "toy" or d.benchmark == "words" else d
        for d in findings.differences
    ]
    drawing = difference_drawing(
        dataclasses.replace(findings, differences=tuple(changed)), findings.study.comparisons[0], key="k"
    )
    assert drawing is not None
    assert [panel.title for panel in drawing.panels] == ["Sums <of> digits", "Sorting", "Attack"]
    assert "toy +5.0 (+3.0 to +7.0)" in drawing.panels[0].alt
    assert all(svg.startswith("<svg") for svg in drawing.inline)


def test_form_is_drawn_where_it_matters(findings: Findings) -> None:
    drawing = form_drawing(findings, "traces", key="k")
    assert drawing is not None
    assert [panel.title for panel in drawing.panels] == ["Sums <of> digits", "Sorting", "Words", "Attack"]
    still = []
    for t in findings.trajectories:
        parts = t.parts and dataclasses.replace(t.parts, form=0 * t.parts.form + 0.9)
        still.append(dataclasses.replace(t, parts=parts))
    assert form_drawing(dataclasses.replace(findings, trajectories=tuple(still)), "traces", key="k") is None


def test_asymmetry_says_its_verdicts(findings: Findings) -> None:
    drawing = asymmetry_drawing(findings, key="k")
    assert drawing is not None
    assert [panel.title for panel in drawing.panels] == ["out-of-domain average"]
    assert "toy: reasoning up, safety down" in drawing.panels[0].alt
