"""Colours on light and on dark ground.

The series are those of Okabe and Ito ("Color Universal Design", 2008), told apart by readers with any kind of colour
vision, made darker or lighter until each stands out from its ground. Series differ by their marker as well.
"""

import re

from megatron_sft.drawing import EDGE, FAINT, FAINT_INK, INK

PAPER = "#ffffff"
# Name of the CSS variable: on light ground, which is also what figures are drawn and saved in, and on dark ground.
COLOURS: dict[str, tuple[str, str]] = {
    "paper": (PAPER, "#14191f"),
    "ink": (INK, "#e3e8ed"),
    "faint-ink": (FAINT_INK, "#9aa7b4"),
    "edge": (EDGE, "#5c6976"),
    "faint": (FAINT, "#2f3842"),
    "soft": ("#f4f6f8", "#1d242c"),
    "series-0": ("#0072b2", "#56b4e9"),
    "series-1": ("#d55e00", "#ff8f45"),
    "series-2": ("#00815f", "#2fc79a"),
    "series-3": ("#b0508f", "#e39ac9"),
    "series-4": ("#a87900", "#f0c542"),
    "series-5": ("#30383f", "#c9d2da"),
    "series-6": ("#3f51b5", "#9fa8ff"),
    "up": ("#00598c", "#7cc6f2"),
    "up-ground": ("#dfeef8", "#12344a"),
    "down": ("#9c4300", "#ffb07a"),
    "down-ground": ("#fbe9dc", "#472410"),
    "mixed": ("#7a5800", "#f0cd68"),
    "mixed-ground": ("#faf1d6", "#3d3210"),
}
NUM_SERIES = 7
MARKERS = ("o", "s", "^", "D", "v")
GLYPHS = ("●", "■", "▲", "◆", "▼")
_BY_COLOUR = {light: f"var(--{name})" for name, (light, _) in COLOURS.items()}
assert len(_BY_COLOUR) == len(COLOURS), "a colour that two names share could not be told apart on dark ground"


def series_colour(number: int) -> str:
    """The colour of a series on light ground."""
    return COLOURS[f"series-{number % NUM_SERIES}"][0]


def series_marker(number: int) -> str:
    """Its marker; no two of 35 series have both the same."""
    return MARKERS[(number + number // 35) % len(MARKERS)]


def series_glyph(number: int) -> str:
    """Its marker as a character."""
    return GLYPHS[MARKERS.index(series_marker(number))]


def themed(markup: str) -> str:
    """Put the variables in the place of the colours in a tag."""
    return re.sub(r"#[0-9a-f]{6}\b", lambda found: _BY_COLOUR.get(found[0], found[0]), markup)


def css_variables(ground: int) -> str:
    """Declarations for light (0) or dark (1) ground."""
    return " ".join(f"--{name}: {colours[ground]};" for name, colours in COLOURS.items())
