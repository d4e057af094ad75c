"""What was gained in reasoning beside what was lost in safety."""

from collections.abc import Sequence
from functools import partial

from matplotlib.axes import Axes

from megatron_sft.drawing import FAINT_INK
from megatron_sft.studies.finding.findings import ArmAsymmetry, Findings
from megatron_sft.studies.report import words
from megatron_sft.studies.report.canvas import Drawing, LegendEntry, Panel
from megatron_sft.studies.report.palette import PAPER, series_colour, series_marker

PANEL_HEIGHT = 2.6


def asymmetry_drawing(findings: Findings, *, key: str) -> Drawing | None:
    """Draw a panel for each pair of a reasoning score and a harm; None where there is none."""
    found = findings.asymmetries
    if not found:
        return None
    arms = [arm for arm in findings.study.arms if any(a.arm == arm for a in found)]
    numbers = {arm: number for number, arm in enumerate(arms)}
    pairs = dict.fromkeys((a.reasoning, a.harm) for a in found)
    panels = [_panel(findings, [a for a in found if (a.reasoning, a.harm) == pair], pair, numbers) for pair in pairs]
    measured = {a.arm for a in found if a.origin == "measured"}
    return Drawing(
        key=key,
        title="Reasoning against safety",
        caption="Change from base at the last step: reasoning to the right, harm upwards, with intervals that hold for "
        f"both and for all steps at once at {words.share(findings.confidence, 0)}. Thin line: the way there over the "
        "steps. Full marker: "
        "both changes told apart from 0. Up and to the right: reasoning rose and safety fell.",
        legend=tuple(
            LegendEntry(name=words.one_line(arm), number=numbers[arm], is_dashed=arm not in measured) for arm in arms
        ),
        panels=tuple(panels),
    )


def _panel(findings: Findings, found: Sequence[ArmAsymmetry], pair: tuple[str, str], numbers: dict[str, int]) -> Panel:
    reasoning, harm = (words.column_title(findings.study, column) for column in pair)
    ends = "; ".join(f"{a.arm}: {a.asymmetry.verdict}" for a in found)
    return Panel(
        # A longer one would be cut off in the width of a panel; the axes name both.
        title=reasoning,
        alt=words.one_line(f"Change of {harm} against change of {reasoning}: {ends}"),
        rows=((PANEL_HEIGHT, partial(_draw, found=found, numbers=numbers, reasoning=reasoning, harm=harm)),),
    )


def _draw(axes: Axes, found: Sequence[ArmAsymmetry], numbers: dict[str, int], reasoning: str, harm: str) -> None:
    axes.axhline(0, color=FAINT_INK, linewidth=0.9)
    axes.axvline(0, color=FAINT_INK, linewidth=0.9)
    for a in found:
        number, gain, loss = numbers[a.arm], a.asymmetry.gain, a.asymmetry.harm
        colour = series_colour(number)
        style = "--" if a.origin == "published" else "-"
        x, y = gain.estimate[-1], loss.estimate[-1]
        axes.plot([0, *gain.estimate], [0, *loss.estimate], color=colour, linewidth=0.7, alpha=0.6, linestyle=style)
        axes.plot([gain.lower[-1], gain.upper[-1]], [y, y], color=colour, linewidth=1.3)
        axes.plot([x, x], [loss.lower[-1], loss.upper[-1]], color=colour, linewidth=1.3)
        resolved = all(d.steps[-1] in (*d.above, *d.below) for d in (gain, loss))
        face = colour if resolved else PAPER
        axes.plot([x], [y], marker=series_marker(number), color=colour, markerfacecolor=face, markersize=6)
    axes.set_xlabel(f"change of {words.shortened(reasoning, 40)}")
    axes.set_ylabel(f"change of {harm}", fontsize=8)
