"""Differences between arms: curves at equal steps, and points with intervals at the last one."""

from collections.abc import Sequence
from functools import partial

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from megatron_sft.drawing import FAINT_INK, set_step_axis
from megatron_sft.studies.finding.findings import ArmDifference, Findings
from megatron_sft.studies.report import words
from megatron_sft.studies.report.canvas import Drawing, LegendEntry, Panel
from megatron_sft.studies.report.palette import PAPER, series_colour, series_marker
from megatron_sft.studies.report.trajectories import MAX_STEP_LABELS, draw_markers, widen
from megatron_sft.studies.study import ComparisonSpec

PANEL_HEIGHT = 1.6
ROW_HEIGHT = 0.2
LEAST_SPAN = 10.0
PUBLISHED = " (published)"


def pair_of(difference: ArmDifference) -> str:
    """What is taken from what."""
    pair = words.one_line(f"{difference.first} {words.MINUS} {difference.second}")
    return pair if difference.origin == "measured" else f"{pair}{PUBLISHED}"


def difference_drawing(findings: Findings, comparison: ComparisonSpec, *, key: str) -> Drawing | None:
    """Draw the differences of one comparison; None where there are none."""
    found = [d for d in findings.differences if d.comparison == comparison.name]
    if not found:
        return None
    with_curves = {d.benchmark for d in found if len(d.differences.steps) > 1}
    # Beside curves the others are in the table only, but for points that belong into a panel.
    shown = [d for d in found if d.benchmark in with_curves] if with_curves else found
    pairs = list(dict.fromkeys(pair_of(d) for d in shown))
    numbers = {pair: colour_number(comparison, shown, pair) for pair in pairs}
    draw = _curve_panels if with_curves else _point_panels
    return Drawing(
        key=key,
        title=f"{words.one_line(comparison.name)}: differences",
        caption=_caption(findings, shown, is_curve=bool(with_curves)),
        legend=tuple(
            LegendEntry(name=pair, number=numbers[pair], is_dashed=pair.endswith(PUBLISHED)) for pair in pairs
        ),
        panels=draw(findings, shown, numbers),
    )


def colour_number(comparison: ComparisonSpec, found: Sequence[ArmDifference], pair: str) -> int:
    """The number of the arm that is not the comparison's first one, so that it has the colour of its curve."""
    difference = next(d for d in found if pair_of(d) == pair)
    arms = list(comparison.arms)
    other = difference.second if difference.first == arms[0] else difference.first
    return arms.index(other) if other in arms else len(arms)


def _caption(findings: Findings, found: Sequence[ArmDifference], *, is_curve: bool) -> str:
    judged = "all steps together" if is_curve else "each for itself"
    parts = [
        f"First arm minus second, {judged} at {words.share(findings.confidence, 0)}. Full marker: told apart from 0; "
        "hollow: not."
    ]
    if any(d.what == "change from base" for d in found):
        parts.append("Arms of different base models are compared by their changes from base.")
    if not all(d.paired for d in found):
        parts.append("Where the items of both are not known one by one, the two are taken as independent.")
    return " ".join(parts)


def _curve_panels(findings: Findings, found: Sequence[ArmDifference], numbers: dict[str, int]) -> tuple[Panel, ...]:
    """A panel for each column."""
    columns = list(dict.fromkeys(d.benchmark for d in found))
    panels = []
    for column in columns:
        here = [d for d in found if d.benchmark == column]
        title = words.column_title(findings.study, column)
        ends = "; ".join(f"{pair_of(d)} {_at_end(d)}" for d in here)
        panels.append(
            Panel(
                title=title,
                note=f"{here[0].what}, {here[0].unit}" + (", lower is better" if here[0].better == "lower" else ""),
                alt=words.one_line(f"Differences on {title} over steps; at the last one {ends}"),
                rows=((PANEL_HEIGHT, partial(_draw_curves, found=here, numbers=numbers)),),
            )
        )
    return tuple(panels)


def _draw_curves(axes: Axes, found: Sequence[ArmDifference], numbers: dict[str, int]) -> None:
    axes.axhline(0, color=FAINT_INK, linewidth=0.9)
    for d in found:
        curve, number = d.differences, numbers[pair_of(d)]
        colour = series_colour(number)
        if len(curve.steps) == 1:
            axes.vlines(curve.steps, curve.lower, curve.upper, color=colour, linewidth=1.2)
        else:
            axes.fill_between(curve.steps, curve.lower, curve.upper, color=colour, alpha=0.14, linewidth=0)
        axes.plot(curve.steps, curve.estimate, color=colour, linestyle="--" if d.origin == "published" else "-")
        draw_markers(axes, curve.steps, curve.estimate, {*curve.above, *curve.below}, number)
    set_step_axis(axes, {step for d in found for step in d.differences.steps}, MAX_STEP_LABELS)
    if found[0].unit == "per cent":
        widen(axes, LEAST_SPAN)
    axes.yaxis.set_major_locator(MaxNLocator(5))


def _point_panels(findings: Findings, found: Sequence[ArmDifference], numbers: dict[str, int]) -> tuple[Panel, ...]:
    """A panel for each pair, a row in it for each column; points of a reward model have a scale of their own."""
    panels = []
    for pair in dict.fromkeys(pair_of(d) for d in found):
        for unit in dict.fromkeys(d.unit for d in found if pair_of(d) == pair):
            here = [d for d in found if pair_of(d) == pair and d.unit == unit]
            titles = [words.shortened(words.column_title(findings.study, d.benchmark), 21) for d in here]
            ends = "; ".join(f"{title} {_at_end(d)}" for title, d in zip(titles, here, strict=True))
            panels.append(
                Panel(
                    title=pair.removesuffix(PUBLISHED),
                    note="" if unit == "per cent" else unit,
                    alt=words.one_line(f"Differences {pair} at the last step: {ends}"),
                    rows=(
                        (
                            ROW_HEIGHT * (len(here) + 0.5),
                            partial(_draw_points, found=here, titles=titles, number=numbers[pair]),
                        ),
                    ),
                )
            )
    return tuple(panels)


def _draw_points(axes: Axes, found: Sequence[ArmDifference], titles: Sequence[str], number: int) -> None:
    box = axes.get_position()
    # Names of benchmarks need more room than numbers do.
    axes.set_position((0.4, box.y0, 0.57, box.height))
    axes.axvline(0, color=FAINT_INK, linewidth=0.9)
    for row, d in enumerate(found):
        end, colour = d.differences, series_colour(number)
        axes.plot([end.lower[-1], end.upper[-1]], [row, row], color=colour, linewidth=1.4)
        is_resolved = end.steps[-1] in (*end.above, *end.below)
        face = colour if is_resolved else PAPER
        axes.plot([end.estimate[-1]], [row], marker=series_marker(number), color=colour, markerfacecolor=face)
    axes.set_yticks(range(len(found)), titles, fontsize=8)
    axes.set_ylim(len(found) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.set_xlabel("difference" if found[0].what == "score" else "difference of changes from base")


def _at_end(d: ArmDifference) -> str:
    digits, end = words.digits_of(d.unit), d.differences
    return words.signed(end.estimate[-1], digits) + " " + words.signed_interval(end.lower[-1], end.upper[-1], digits)
