"""Colours: each has its contrast, and every series differs from every other one."""

import re

import pytest

from megatron_sft.studies.report.palette import COLOURS, css_variables, series_colour, series_marker, themed


def luminance(colour: str) -> float:
    """Relative luminance of sRGB (WCAG 2)."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(first: str, second: str) -> float:
    bright, dim = sorted((luminance(first), luminance(second)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


@pytest.mark.parametrize("ground", [0, 1])
def test_text_can_be_read_and_lines_can_be_seen(ground: int) -> None:
    paper = COLOURS["paper"][ground]
    for name, colours in COLOURS.items():
        if name.startswith("series") or name in ("ink", "faint-ink", "up", "down", "mixed"):
            least = 3.0 if name.startswith("series") else 4.5
            assert contrast(colours[ground], paper) >= least, name
    for tone in ("up", "down", "mixed"):
        tinted = COLOURS[f"{tone}-ground"][ground]
        assert contrast(COLOURS[tone][ground], tinted) >= 4.5, tone
        assert contrast(COLOURS["ink"][ground], tinted) >= 7.0, tone


def test_no_two_of_thirty_five_series_look_the_same() -> None:
    assert len({(series_colour(i), series_marker(i)) for i in range(35)}) == 35


def test_colours_of_a_tag_become_variables_and_others_stay() -> None:
    assert themed('style="fill: #ffffff; stroke: #123456"') == 'style="fill: var(--paper); stroke: #123456"'
    assert set(re.findall(r"--([a-z0-9-]+):", css_variables(1))) == set(COLOURS)
