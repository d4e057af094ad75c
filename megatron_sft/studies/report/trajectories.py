"""Scores over steps with their bands, lengths and shares cut off beneath them; ours solid, published ones dashed."""

from collections.abc import Sequence
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from megatron_sft.drawing import set_step_axis
from megatron_sft.studies.analysis.curve import CONFIDENCE
from megatron_sft.studies.finding.findings import Findings, Trajectory
from megatron_sft.studies.report import words
from megatron_sft.studies.report.canvas import Drawing, LegendEntry, Panel
from megatron_sft.studies.report.palette import PAPER, series_colour, series_marker

SCORE_HEIGHT, LENGTH_HEIGHT, CUT_HEIGHT = 1.6, 0.85, 0.45
MAX_STEP_LABELS = 7
LEAST_SPAN = 10.0
"""Per cent that the axis of scores shows at least: else noise would look like a landslide."""
MIN_STEPS = 3
"""Of a curve; two points are in the tables."""

Series = tuple[int, Trajectory]
"""Number of the arm among those of the figure, and its curve."""


def trajectory_drawing(
    findings: Findings, arms: Sequence[str], *, key: str, title: str, benchmarks: Sequence[str] = ()
) -> Drawing | None:
    """Draw the curves of some arms, a panel for each benchmark and average; None where there is no curve.

    Args:
        findings: what to draw.
        arms: whose curves.
        key: name of the files.
        title: above the figure.
        benchmarks: only these; empty: all.
    """
    curves = [
        t
        for t in findings.trajectories
        if t.arm in arms
        and len(t.curve.steps) >= MIN_STEPS
        and (not benchmarks or t.benchmark.split("/")[0] in benchmarks)
    ]
    columns = words.ordered(findings.study, (t.benchmark for t in curves))
    if not columns:
        return None
    panels = [
        score_panel(findings, column, [(arms.index(t.arm), t) for t in curves if t.benchmark == column])
        for column in columns
    ]
    has_lengths = any(t.lengths is not None for t in curves)
    return Drawing(
        key=key,
        title=title,
        caption=caption(findings, curves, has_lengths=has_lengths),
        legend=legend_of(findings, arms, curves),
        panels=tuple(panels),
    )


def caption(findings: Findings, curves: Sequence[Trajectory], *, has_lengths: bool) -> str:
    """What the figure shows, and what its bands are."""
    origins = {t.origin for t in curves}
    parts = [
        "Scores over optimizer steps (logarithmic axis that begins with the base model); each panel has a scale of its "
        f"own. Band: {words.share(CONFIDENCE, 0)} interval of each score for itself. Full marker: told apart from "
        f"base, all steps judged together at {words.share(findings.confidence, 0)}; hollow: not. Dotted: base."
    ]
    if "published" in origins:
        beside = "; beside a measured curve they have no band" if len(origins) == 2 else ""
        parts.append(f"Dashed: published numbers, standard errors from the number of items{beside}.")
    if has_lengths:
        parts.append("Below: tokens of a response, and the share of responses that the budget cut off.")
    return " ".join(parts)


def legend_of(findings: Findings, arms: Sequence[str], curves: Sequence[Trajectory]) -> tuple[LegendEntry, ...]:
    """One entry for each arm that has a curve; dashed where it has published ones only."""
    measured, shown = {t.arm for t in curves if t.origin == "measured"}, {t.arm for t in curves}
    return tuple(
        LegendEntry(name=words.one_line(arm), number=number, is_dashed=arm not in measured)
        for number, arm in enumerate(arms)
        if arm in shown
    )


def score_panel(findings: Findings, column: str, series: Sequence[Series]) -> Panel:
    """Scores of one column; lengths and cut-off shares beneath them where they are known."""
    first = series[0][1]
    rows = [(SCORE_HEIGHT, partial(_draw_scores, series=series))]
    with_lengths = [(number, t) for number, t in series if t.lengths is not None]
    if with_lengths:
        rows += [
            (LENGTH_HEIGHT, partial(_draw_lengths, series=with_lengths)),
            (CUT_HEIGHT, partial(_draw_cut, series=with_lengths)),
        ]
    title = words.column_title(findings.study, column)
    note = first.unit + (", lower is better" if first.better == "lower" else "")
    ends = "; ".join(
        f"{t.arm}{' (published)' if t.origin == 'published' else ''} from {words.number(t.curve.means[0])} to "
        f"{words.number(t.curve.means[-1])}" + (f", {t.shape.verdict.value}" if t.shape else "")
        for _, t in series
    )
    return Panel(
        title=title,
        note=note,
        alt=words.one_line(f"{title} over steps, {note}: {ends}"),
        rows=tuple(rows),
    )


def _draw_scores(axes: Axes, series: Sequence[Series]) -> None:
    measured = {t.arm for _, t in series if t.origin == "measured"}
    for number, t in series:
        colour, is_dashed = series_colour(number), t.origin == "published"
        if not (is_dashed and t.arm in measured):
            low, high = t.curve.band()
            axes.fill_between(t.curve.steps, low, high, color=colour, alpha=0.14, linewidth=0)
        axes.axhline(t.curve.means[0], color=colour, linestyle=":", linewidth=0.9, alpha=0.8)
        axes.plot(t.curve.steps, t.curve.means, color=colour, linestyle="--" if is_dashed else "-")
        draw_markers(axes, t.curve.steps, t.curve.means, resolved_steps(t), number)
    set_step_axis(axes, {step for _, t in series for step in t.curve.steps}, MAX_STEP_LABELS)
    if series[0][1].unit == "per cent":
        widen(axes, LEAST_SPAN)
    axes.yaxis.set_major_locator(MaxNLocator(5))


def _draw_lengths(axes: Axes, series: Sequence[Series]) -> None:
    for number, t in series:
        assert t.lengths is not None
        curve, colour = t.lengths.curve, series_colour(number)
        low, high = curve.band()
        axes.fill_between(curve.steps, low, high, color=colour, alpha=0.14, linewidth=0)
        axes.plot(curve.steps, curve.means, color=colour, marker=series_marker(number), markersize=3)
    set_step_axis(axes, {step for _, t in series for step in t.curve.steps}, MAX_STEP_LABELS)
    axes.set_ylim(0, max(axes.get_ylim()[1], 1.0))
    axes.yaxis.set_major_locator(MaxNLocator(3))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda tokens, _: thousands(tokens)))
    axes.set_ylabel("tokens", fontsize=8)


def _draw_cut(axes: Axes, series: Sequence[Series]) -> None:
    for number, t in series:
        assert t.lengths is not None
        steps = t.lengths.curve.steps
        axes.plot(steps, t.lengths.share_cut, color=series_colour(number), marker=series_marker(number), markersize=3)
    set_step_axis(axes, {step for _, t in series for step in t.curve.steps}, MAX_STEP_LABELS)
    axes.set_ylim(-0.06, 1.06)
    axes.set_yticks([0, 0.5, 1])
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=""))
    axes.set_ylabel("cut, %", fontsize=8)


def resolved_steps(trajectory: Trajectory) -> set[int]:
    """Steps whose change from base the simultaneous band tells apart from 0."""
    shape = trajectory.shape
    if shape is None:
        return set()
    ends = zip(trajectory.curve.steps[1:], shape.lower, shape.upper, strict=True)
    return {step for step, low, high in ends if low > 0 or high < 0}


def draw_markers(
    axes: Axes,
    steps: Sequence[int],
    values: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    full: set[int],
    number: int,
) -> None:
    """Draw markers, hollow where the step is not among `full`."""
    colour = series_colour(number)
    for wanted in (True, False):
        chosen = [(step, value) for step, value in zip(steps, values, strict=True) if (step in full) == wanted]
        if chosen:
            face = colour if wanted else PAPER
            x, y = zip(*chosen, strict=True)
            axes.plot(
                x, y, linestyle="", marker=series_marker(number), color=colour, markerfacecolor=face, markersize=4.2
            )


def widen(axes: Axes, span: float) -> None:
    """Show at least so much of the vertical axis."""
    low, high = axes.get_ylim()
    missing = max(0.0, span - (high - low)) / 2
    axes.set_ylim(low - missing, high + missing)


def thousands(tokens: float) -> str:
    """A number of tokens that has room beside an axis."""
    return f"{tokens / 1000:g}k" if tokens >= 1000 else f"{tokens:g}"
