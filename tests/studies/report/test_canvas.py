"""Panels as part of a page, and as files."""

import io
import xml.etree.ElementTree as ElementTree

import matplotlib.image
from matplotlib.axes import Axes

from megatron_sft.studies.report.canvas import Drawing, LegendEntry, Panel, to_inline

ATTACK = '<script>alert("1")</script> & $\\frac{ #0072b2'


def draw(axes: Axes) -> None:
    axes.plot([0, 1], [2, 3], color="#0072b2", marker="o", label=ATTACK)
    axes.set_xlabel(ATTACK)


def drawing(num_panels: int) -> Drawing:
    panel = Panel(title=ATTACK, note="per cent", alt=ATTACK, rows=((1.5, draw), (0.5, draw)))
    legend = (LegendEntry(name=ATTACK, number=0), LegendEntry(name="b", number=1, is_dashed=True))
    return Drawing(key="a-key", title="t", caption="c", legend=legend, panels=(panel,) * num_panels)


def test_inline_panels_have_the_pages_colours_and_names_of_their_own() -> None:
    first, second = drawing(2).inline
    for svg in (first, second):
        assert ElementTree.fromstring(svg).attrib["aria-label"] == ATTACK
        assert "<style" not in svg
        assert "<script" not in svg
        assert "stroke: var(--series-0)" in svg
        assert "#0072b2" not in svg.replace("#0072b2</text>", "").replace('#0072b2"', "")
    identifiers = [
        {e.attrib["id"] for e in ElementTree.fromstring(s).iter() if "id" in e.attrib} for s in (first, second)
    ]
    assert identifiers[0] and not identifiers[0] & identifiers[1]
    for svg, own in zip((first, second), identifiers, strict=True):
        used = {v[1:] for e in ElementTree.fromstring(svg).iter() for k, v in e.attrib.items() if k.endswith("href")}
        assert used and used <= own


def test_names_in_figures_stay_what_they_are() -> None:
    texts = [e.text for e in ElementTree.fromstring(drawing(1).inline[0]).iter() if e.tag.endswith("text")]
    assert ATTACK in texts


def test_files_hold_all_panels() -> None:
    png, svg = drawing(5).files()
    height, width, _ = matplotlib.image.imread(io.BytesIO(png)).shape
    assert (width, height) == (round(3 * 3.7 * 150), round((2 * 2.96 + 0.32) * 150))
    assert sum(e.text == "per cent" for e in ElementTree.fromstring(svg).iter()) == 5
    assert drawing(5).files() == (png, svg)


def test_numbers_are_rounded_in_tags_only() -> None:
    svg = '<svg viewBox="0 0 1 1"><g id="a"><path d="M 1.23456 -0.98765"/><text style="x">0.123456</text></g></svg>'
    assert to_inline(svg, prefix="p-", alt="").endswith('<path d="M 1.23 -0.98"/><text style="x">0.123456</text></svg>')
