"""What all figures of this project share: look, axis of the steps, and how a figure becomes bytes. Needs matplotlib."""

import io
import math
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

INK, FAINT_INK, FAINT, EDGE = "#22303c", "#6b7885", "#d9dee3", "#9aa5b1"
STYLE: dict[str, Any] = {
    "font.size": 9.5,
    "axes.edgecolor": EDGE,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 4.5,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    # Names come from files: a dollar sign in one is no mathematics.
    "text.parse_math": False,
    # Text that can be read aloud, found and coloured; names of parts that are the same every time.
    "svg.fonttype": "none",
    "svg.hashsalt": "megatron-sft",
}
DOTS_PER_INCH = 150
MAX_STEP_LABELS = 9


def set_step_axis(axes: Axes, steps: set[int], max_labels: int = MAX_STEP_LABELS) -> None:
    """A logarithmic axis that begins with the base model at 0, labelled at the evaluated steps."""
    axes.set_xlabel("step")
    later = sorted(step for step in steps if step > 0)
    if later:
        axes.set_xscale("symlog", linthresh=later[0], linscale=0.6)
        axes.set_xlim(-0.12 * later[0] if 0 in steps else 0.9 * later[0], later[-1] * 1.15)
    shown = [*([0] if 0 in steps else []), *spread_out(later, max_labels)]
    axes.xaxis.set_major_locator(FixedLocator(shown))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: "base" if step == 0 else f"{step:g}"))


def spread_out(steps: list[int], max_labels: int) -> list[int]:
    """The last of some rising steps, and those before it that leave room for their labels on a logarithmic axis."""
    if not steps:
        return []
    room = math.log(steps[-1] / steps[0]) / max_labels
    kept = [steps[-1]]
    for step in reversed(steps[:-1]):
        if math.log(kept[-1] / step) >= room:
            kept.append(step)
    return kept[::-1]


def png_of(figure: Figure) -> bytes:
    """Render the figure; the same data gives the same bytes."""
    return _rendered(figure, "png", {"Software": None})


def svg_of(figure: Figure) -> str:
    """Render the figure with its text as text; the same data gives the same bytes."""
    return _rendered(figure, "svg", dict.fromkeys(("Creator", "Date", "Format", "Type"))).decode("utf-8")


def _rendered(figure: Figure, kind: str, metadata: dict[str, None]) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, metadata=metadata)
    return buffer.getvalue()
