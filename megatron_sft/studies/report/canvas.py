"""Figures of small panels: on the page each is an SVG of its own, so that they flow; in files they are one grid."""

import functools
import math
import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, FigureBase
from matplotlib.lines import Line2D

from megatron_sft.drawing import DOTS_PER_INCH, FAINT_INK, STYLE, png_of, svg_of
from megatron_sft.studies.report import words
from megatron_sft.studies.report.palette import PAPER, series_colour, series_glyph, series_marker, themed

PANEL_WIDTH = 3.7
"""Inches; about the width of a telephone, so that its text is then about as large as the page's."""
TITLE_HEIGHT, AXIS_HEIGHT = 0.42, 0.42
LEFT, RIGHT = 0.52, 0.1
MAX_COLUMNS = 3
MAX_LEGEND_COLUMNS = 3
LOOK = STYLE | {
    "font.size": 9,
    "font.family": ["DejaVu Sans"],
    "axes.titlesize": 10,
    "lines.linewidth": 1.6,
    "legend.fontsize": 9,
}


@dataclass(frozen=True, kw_only=True)
class LegendEntry:
    """One series."""

    name: str
    number: int
    """Decides over colour and marker."""
    is_dashed: bool = False

    @property
    def colour(self) -> str:
        """For the page."""
        return themed(series_colour(self.number))

    @property
    def glyph(self) -> str:
        """For the page."""
        return series_glyph(self.number)


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One small picture."""

    title: str
    note: str = ""
    """Beside the title."""
    alt: str
    """What it shows, for those who do not see it."""
    rows: tuple[tuple[float, Callable[[Axes], None]], ...]
    """Height in inches of each pair of axes, from the top, and what draws it; they share the horizontal axis."""

    @property
    def height(self) -> float:
        """In inches, with title and labels."""
        return TITLE_HEIGHT + sum(height for height, _ in self.rows) + 0.12 * (len(self.rows) - 1) + AXIS_HEIGHT


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A finished figure."""

    key: str
    """Name of its files."""
    title: str
    caption: str
    """What is seen, and what the bands are."""
    legend: tuple[LegendEntry, ...]
    panels: tuple[Panel, ...]

    @functools.cached_property
    def inline(self) -> list[str]:
        """SVG of each panel for the page."""
        return [_inline_panel(panel, f"{zlib.crc32(self.key.encode()):x}-{i}-") for i, panel in enumerate(self.panels)]

    def files(self) -> tuple[bytes, str]:
        """PNG and SVG of all panels, on light ground."""
        with mpl.rc_context(LOOK):
            figure = _grid(self.panels, self.legend)
            return png_of(figure), svg_of(figure)


def _inline_panel(panel: Panel, prefix: str) -> str:
    with mpl.rc_context(LOOK):
        figure = Figure(figsize=(PANEL_WIDTH, panel.height), dpi=72, facecolor="none")
        _draw(panel, figure, panel.height)
        return to_inline(svg_of(figure), prefix=prefix, alt=panel.alt)


def _draw(panel: Panel, figure: FigureBase, height: float) -> None:
    """Draw a panel at the top of a figure of this height; everything is placed in inches."""
    top, first = height - TITLE_HEIGHT, None
    for number, (inches, draw) in enumerate(panel.rows):
        box = (LEFT / PANEL_WIDTH, (top - inches) / height, 1 - (LEFT + RIGHT) / PANEL_WIDTH, inches / height)
        axes = figure.add_axes(box, sharex=first, facecolor=PAPER)
        first = first or axes
        draw(axes)
        axes.tick_params(labelbottom=number == len(panel.rows) - 1)
        if number < len(panel.rows) - 1:
            axes.set_xlabel("")
        top -= inches + 0.12
    assert first is not None
    place = first.get_position()
    # Titles begin at the edge, where axes with long labels begin far from it.
    room = int((72 * PANEL_WIDTH - 8 - 4.8 * len(panel.note)) / 6.4)
    first.set_title(words.shortened(panel.title, room), x=(0.02 - place.x0) / place.width)
    first.set_title(panel.note, loc="right", fontsize=8, fontweight="normal", color=FAINT_INK)


def _grid(panels: Sequence[Panel], legend: Sequence[LegendEntry]) -> Figure:
    """All panels in rows, the legend above them."""
    num_columns = 2 if len(panels) in (2, 4) else min(MAX_COLUMNS, len(panels))
    num_rows = math.ceil(len(panels) / num_columns)
    heights = [max(p.height for p in panels[row * num_columns : (row + 1) * num_columns]) for row in range(num_rows)]
    legend_columns = max(1, min(num_columns, MAX_LEGEND_COLUMNS, len(legend)))
    above = 0.1 + 0.22 * math.ceil(len(legend) / legend_columns)
    figure = Figure(figsize=(num_columns * PANEL_WIDTH, sum(heights) + above), dpi=DOTS_PER_INCH)
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(
        num_rows + 1, num_columns, height_ratios=[above, *heights], left=0, right=1, top=1, bottom=0, wspace=0, hspace=0
    )
    for number, panel in enumerate(panels):
        row = number // num_columns
        _draw(panel, figure.add_subfigure(grid[row + 1, number % num_columns]), heights[row])
    if legend:
        handles = [
            Line2D(
                [],
                [],
                color=series_colour(entry.number),
                marker=series_marker(entry.number),
                linestyle="--" if entry.is_dashed else "-",
            )
            for entry in legend
        ]
        names = [entry.name for entry in legend]
        figure.legend(handles, names, loc="upper left", ncols=legend_columns, borderaxespad=0.3)
    return figure


def to_inline(svg: str, *, prefix: str, alt: str) -> str:
    """Make an SVG file part of a page: colours of its theme, names of its own, and nothing that reaches outside."""
    body = svg[svg.index("<svg") :]
    # A style sheet inside would hold for the page; the whole page is what `*` means there.
    body = re.sub(
        r"<defs>\s*<style.*?</style>\s*</defs>|<metadata>.*?</metadata>|<!--.*?-->", "", body, flags=re.DOTALL
    )
    body = _without_bare_groups(re.sub(r"<[^>]*>", lambda tag: _tidy(tag[0], prefix), body))
    body = re.sub(r">\s+<", "><", body)
    box = re.search(r'viewBox="([^"]*)"', body)
    assert box is not None
    root = (
        f'<svg viewBox="{box[1]}" xmlns:xlink="http://www.w3.org/1999/xlink" role="img" aria-label="{_attribute(alt)}" '
        'stroke-linejoin="round">'
    )
    return root + body[body.index(">") + 1 :].rstrip()


def _tidy(tag: str, prefix: str) -> str:
    """A tag in fewer characters: whole hundredths of a point, no names that nothing refers to, the page's font."""
    if tag.startswith("</"):
        return tag
    tag = re.sub(r"\s+", " ", tag)
    tag = re.sub(r"(-?\d+\.\d\d)\d+", r"\1", tag)
    tag = re.sub(r'^<(g|text) id="[^"]*"', r"<\1", tag)
    tag = re.sub(r' transform="rotate\(-?0 [^"]*"', "", tag)
    tag = re.sub(r"; stroke-dashoffset: 0(?=[;\"])", "", tag)
    tag = re.sub(r"font: ([^;\"]*?)'DejaVu Sans'[^;\"]*", r"font: \1sans-serif", tag)
    tag = re.sub(r"font-family: [^;\"]*", "font-family: sans-serif", tag)
    tag = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{prefix}", tag)
    return themed(tag)


def _without_bare_groups(body: str) -> str:
    """Take out groups that say nothing, and their ends."""
    is_kept: list[bool] = []

    def judge(tag: re.Match[str]) -> str:
        if tag[0] == "</g>":
            return "</g>" if is_kept.pop() else ""
        is_kept.append(tag[0] != "<g>")
        return tag[0] if is_kept[-1] else ""

    return re.sub(r"<g\b[^>]*>|</g>", judge, body)


def _attribute(text: str) -> str:
    for character, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;")):
        text = text.replace(character, entity)
    return text
