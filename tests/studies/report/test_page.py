"""The page as a whole: complete, self-contained, escaped, and of a size that can be sent."""

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from megatron_sft.studies.finding.find import find_published
from megatron_sft.studies.finding.findings import Findings
from megatron_sft.studies.report.page import (
    predictions_of,
    render,
    sorted_claims,
    with_shared_styles,
    without_idle_averages,
    write,
)
from megatron_sft.studies.report.sections import sections_of
from megatron_sft.studies.study import load

ATTACK = "<img src=x onerror=alert(1)>\"' & </script> $\\frac{"


def test_most_important_comes_first(report: Path, parse: Callable[[str], Any]) -> None:
    page = parse((report / "index.html").read_text(encoding="utf-8"))
    assert [text.strip() for text in page.texts["h2"]] == [
        "What was found",
        "Missing, or to be kept in mind",
        "Verdicts",
        "Comparisons",
        "Other arms",
        "Reasoning against safety",
        "Form and accuracy",
        "Lengths",
        "What could have been seen",
        "Conditions",
        "Wall time",
        "Provenance",
    ]
    verdicts = page.table("Verdict of each curve (measured)")
    assert verdicts[1][0].startswith("arm")
    assert [row[0] for row in verdicts[2:]] == ["traces", "answers", "toy", "slow"]
    assert verdicts[2][1].startswith("↘↗ dip and recovery +")


def test_claims_that_were_decided_come_first(findings: Findings, report: Path, parse: Callable[[str], Any]) -> None:
    assert [claim.number for claim in sorted_claims(findings.claims)] == ["1", "3", "2"]
    (prediction,) = predictions_of(findings.claims[0])
    assert [evidence.outcome for evidence in (*prediction.decided, *prediction.rest)] == ["holds", "open"]
    assert (prediction.statement, prediction.summary) == ("it dips", "1 not resolved")
    page = parse((report / "index.html").read_text(encoding="utf-8"))
    evidence = [text for text in page.texts["li"] if "sorting falls" in text]
    assert any("holds sorting falls by 20.1 (12.0 to 28.2) at step 20" in " ".join(text.split()) for text in evidence)


def test_every_figure_is_there_as_svg_and_png(findings: Findings, report: Path) -> None:
    page = (report / "index.html").read_text(encoding="utf-8")
    keys = re.findall(r'<figure id="figure-([a-z0-9-]+)">', page)
    assert len(keys) == len(set(keys)) == 9
    names = {path.name for path in (report / "figures").iterdir()}
    assert names == {f"{key}.{ending}" for key in keys for ending in ("png", "svg")}
    for key in keys:
        assert (report / "figures" / f"{key}.png").read_bytes().startswith(b"\x89PNG")
        assert (report / "figures" / f"{key}.svg").read_text(encoding="utf-8").count("<path") > 10


def test_page_refers_to_nothing_outside(report: Path) -> None:
    page = (report / "index.html").read_text(encoding="utf-8")
    references = re.findall(r"""(?:\bsrc|href|url|@import|action)\s*[=(]\s*["']?([^"'\s>)]+)""", page)
    assert len(references) > 50
    assert {reference for reference in references if not reference.startswith("#")} == set()
    assert "default-src 'none'" in page


def test_tables_can_be_read_aloud_and_links_have_targets(report: Path, parse: Callable[[str], Any]) -> None:
    page = parse((report / "index.html").read_text(encoding="utf-8"))
    assert len(page.tables) > 10
    assert "" not in page.tables
    assert set(page.scopes) == {"row", "col", "colgroup"}
    assert len(page.ids) == len(set(page.ids))
    assert {link[1:] for link in page.links} <= set(page.ids)
    assert page.tags.count("svg") > 20


def test_hostile_names_are_escaped(
    make_findings: Callable[..., Findings], tmp_path: Path, parse: Callable[[str], Any]
) -> None:
    arms = [ATTACK, "b\nc", "#0072b2", "../../x"]
    hostile = make_findings(arms, num_items=20)
    claims = tuple(dataclasses.replace(claim, text=ATTACK) for claim in hostile.claims)
    hostile = dataclasses.replace(hostile, claims=claims, warnings=(ATTACK,), provenance={ATTACK: ATTACK}, margin=2.5)
    written = write(hostile, tmp_path)
    text = written[0].read_text(encoding="utf-8")
    assert "<img" not in text
    assert text.count("&lt;img src=x") > 20
    assert text.count("</script>") == 1
    page = parse(text)
    assert {row[0] for row in page.table("Conditions of each arm")[1:]} == {ATTACK, "b c", "#0072b2", "../../x"}
    assert {path.parent for path in written[1:]} == {tmp_path / "figures"}


def test_sections_without_content_are_left_out(findings: Findings, parse: Callable[[str], Any]) -> None:
    bare = dataclasses.replace(
        findings,
        trajectories=(),
        differences=(),
        asymmetries=(),
        claims=(),
        power=(),
        times=(),
        provenance={},
        warnings=(),
        study=dataclasses.replace(findings.study, reference={}),
    )
    page = parse(render(bare, list(sections_of(bare))))
    assert [text.strip() for text in page.texts["h2"]] == ["Conditions"]


def test_the_paper_from_its_numbers_alone(parse: Callable[[str], Any]) -> None:
    findings = find_published(load("paper"))
    text = render(findings, list(sections_of(findings)))
    page = parse(text)
    assert len(page.table("Conditions of each arm")) == 34
    matrix = {row[0]: row for row in page.table("Verdict of each curve (published)")[2:]}
    assert set(matrix) == {"4b-math-cot", "4b-math-nocot", "1.7b-math-cot", "1.7b-math-nocot"}
    assert matrix["1.7b-math-cot"][1].startswith("↘? dip, end open")
    assert "Fig. 3 and 5" in text
    assert len(text) < 2_000_000


def test_styles_that_figures_repeat_become_classes() -> None:
    figure = '<svg><path style="fill: red"/><text style="fill: red">style="fill: red"</text><g style="x"></g></svg>'
    page = with_shared_styles(f'<style>a</style><p style="fill: red"></p>{figure}')
    assert page == (
        '<style>a.s0{fill: red}\n.s1{x}\n</style><p style="fill: red"></p>'
        '<svg><path class="s0"/><text class="s0">style="fill: red"</text><g class="s1"></g></svg>'
    )


def test_averages_of_one_benchmark_are_not_shown(findings: Findings) -> None:
    curves = [dataclasses.replace(t, members=t.members[:1]) for t in findings.trajectories]
    idle = dataclasses.replace(findings, trajectories=tuple(curves))
    assert {t.benchmark for t in without_idle_averages(idle).trajectories} == {"sums", "sorting", "words", "attack"}
    # One arm's average has two members.
    curves[4] = findings.trajectories[4]
    mixed = without_idle_averages(dataclasses.replace(findings, trajectories=tuple(curves)))
    assert [t.arm for t in mixed.trajectories if t.is_average] == ["traces"]
    assert mixed.differences == findings.differences


def test_figures_of_an_earlier_report_go(make_findings: Callable[..., Findings], tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    for name in ("curves-of-an-arm.svg", "notes.txt"):
        (tmp_path / "figures" / name).write_text("old")
    bare = dataclasses.replace(make_findings(num_items=20), trajectories=(), differences=(), asymmetries=())
    assert len(write(bare, tmp_path)) == 1
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["notes.txt"]


@pytest.mark.slow
def test_thirty_three_arms_stay_of_a_size_that_can_be_sent(make_findings: Callable[..., Findings]) -> None:
    findings = make_findings([f"arm-{i}" for i in range(33)], num_items=20)
    size = len(render(findings, list(sections_of(findings))).encode("utf-8"))
    print(f"page of 33 arms and 4 benchmarks: {size:,} bytes")
    assert 500_000 < size < 4_000_000
