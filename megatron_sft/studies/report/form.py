"""How much of a change is form: stacked parts of the change from base at each step."""

from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from megatron_sft.drawing import INK
from megatron_sft.studies.finding.findings import Findings, Trajectory
from megatron_sft.studies.report import words
from megatron_sft.studies.report.canvas import Drawing, LegendEntry, Panel
from megatron_sft.studies.report.palette import series_colour
from megatron_sft.studies.report.trajectories import widen

FORM, ACCURACY = 1, 0
LEAST_PART = 1.0
"""Per cent: an arm's benchmark is drawn if form made up as much at any step."""
PANEL_HEIGHT = 1.5


def has_form(trajectory: Trajectory) -> bool:
    """Whether form is worth a panel."""
    parts = trajectory.parts
    return parts is not None and bool(np.abs(parts.form).max() >= LEAST_PART)


def form_drawing(findings: Findings, arm: str, *, key: str) -> Drawing | None:
    """Draw the parts of one arm's changes; None where form changed nothing."""
    shown = [t for t in findings.trajectories if t.arm == arm and has_form(t)]
    if not shown:
        return None
    columns = words.ordered(findings.study, (t.benchmark for t in shown))
    shown.sort(key=lambda t: columns.index(t.benchmark))
    return Drawing(
        key=key,
        title=words.one_line(arm),
        caption="Change from base in per cent, split exactly into two parts: more answers that could be taken from "
        "the response (form), and more of those being right (accuracy). Line: the whole change with its 95 % "
        f"interval. Benchmarks where form made up less than {LEAST_PART:g} per cent at every step are in the table "
        "only.",
        legend=(LegendEntry(name="form", number=FORM), LegendEntry(name="accuracy", number=ACCURACY)),
        panels=tuple(_panel(findings, t) for t in shown),
    )


def _panel(findings: Findings, trajectory: Trajectory) -> Panel:
    parts = trajectory.parts
    assert parts is not None
    title = words.column_title(findings.study, trajectory.benchmark)
    last = [words.signed(part[-1]) for part in (parts.gain, parts.form, parts.accuracy)]
    return Panel(
        title=title,
        alt=words.one_line(f"{title}: at the last step {last[0]}, of which form {last[1]} and accuracy {last[2]}"),
        rows=((PANEL_HEIGHT, partial(_draw, trajectory=trajectory)),),
    )


def _draw(axes: Axes, trajectory: Trajectory) -> None:
    parts = trajectory.parts
    assert parts is not None
    places = np.arange(len(parts.steps))
    above, below = np.zeros(len(places)), np.zeros(len(places))
    for part, number in ((parts.accuracy, ACCURACY), (parts.form, FORM)):
        start = np.where(part >= 0, above, below)
        axes.bar(places, part, bottom=start, width=0.7, color=series_colour(number), alpha=0.85)
        above, below = above + np.maximum(part, 0), below + np.minimum(part, 0)
    low, high = parts.gain_interval
    axes.vlines(places, low, high, color=INK, linewidth=1.2)
    axes.plot(places, parts.gain, color=INK, marker="o", markersize=3, linewidth=0.8)
    axes.axhline(0, color=INK, linewidth=0.8)
    labels = [words.step(step) if len(places) <= 9 or i % 2 else "" for i, step in enumerate(parts.steps)]
    axes.set_xticks(places, labels)
    axes.grid(visible=False, axis="x")
    axes.set_xlabel("step")
    widen(axes, 10.0)
    axes.yaxis.set_major_locator(MaxNLocator(5))
