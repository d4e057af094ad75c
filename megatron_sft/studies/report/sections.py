"""What the page has, section by section; one without content is left out."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from megatron_sft.studies.finding.findings import Findings
from megatron_sft.studies.report import details, scores, verdicts, words
from megatron_sft.studies.report.asymmetry import asymmetry_drawing
from megatron_sft.studies.report.canvas import Drawing
from megatron_sft.studies.report.contrasts import difference_drawing
from megatron_sft.studies.report.form import form_drawing
from megatron_sft.studies.report.table import Table
from megatron_sft.studies.report.trajectories import trajectory_drawing
from megatron_sft.studies.study import ComparisonSpec

MAX_ARMS = 6
"""Curves of different arms that a panel has room for, where no comparison says which belong together."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """Some tables and figures under a heading of their own."""

    title: str = ""
    anchor: str = ""
    text: str = ""
    content: tuple[Table | Drawing, ...] = ()
    is_closed: bool = False
    """Opens when it is asked for: what is long, and not needed for the first reading."""


@dataclass(frozen=True, kw_only=True)
class Section:
    """A section of the page."""

    title: str
    anchor: str
    text: str = ""
    parts: tuple[Part, ...] = field(default=())


def sections_of(findings: Findings) -> Iterator[Section]:
    """Every section that has content, most important first."""
    for section in (
        verdict_section(findings),
        comparison_section(findings),
        other_section(findings),
        asymmetry_section(findings),
        form_section(findings),
        _tables("Lengths", "lengths", details.length_table(findings)),
        _tables("What could have been seen", "power", details.power_table(findings)),
        _tables("Conditions", "conditions", details.condition_table(findings)),
        _tables("Wall time", "time", *details.time_tables(findings)),
        _tables("Provenance", "provenance", details.provenance_table(findings)),
    ):
        if section is not None and section.parts:
            yield section


def verdict_section(findings: Findings) -> Section:
    """The matrix, and all curves behind it."""
    parts = []
    for origin in ("measured", "published"):
        matrix, curves = verdicts.verdict_matrix(findings, origin), verdicts.curve_table(findings, origin)
        if matrix and curves:
            parts.append(Part(content=(matrix,)))
            title = f"All {len(curves.rows)} {origin} curves in figures"
            parts.append(Part(title=title, anchor=f"curves-{origin}", content=(curves,), is_closed=True))
    return Section(
        title="Verdicts",
        anchor="verdicts",
        text="Each curve is judged with all of its steps together: at most "
        f"{words.share(1 - findings.confidence, 0)} of curves get a verdict that is false. Changes of less than "
        f"{words.number(findings.margin)} points do not matter.",
        parts=tuple(parts),
    )


def comparison_section(findings: Findings) -> Section:
    """What the study compares."""
    parts = [comparison_part(findings, number, c) for number, c in enumerate(findings.study.comparisons, start=1)]
    return Section(
        title="Comparisons",
        anchor="comparisons",
        text="Coloured scores: told apart from base, for better (blue) or worse (orange). A star marks a published "
        "number that is in doubt; it is no point of a curve.",
        parts=tuple(part for part in parts if part.content),
    )


def comparison_part(findings: Findings, number: int, comparison: ComparisonSpec) -> Part:
    """Scores, curves and differences of one comparison."""
    key = f"{number:02}-{words.slug(comparison.name)}"
    name = words.one_line(comparison.name)
    curves = None
    if comparison.at == "equal steps":
        title = f"{name}: scores over steps"
        curves = trajectory_drawing(
            findings, comparison.arms, key=f"curves-{key}", title=title, benchmarks=comparison.benchmarks
        )
    content = (
        scores.score_table(findings, comparison),
        curves,
        difference_drawing(findings, comparison, key=f"differences-{key}"),
        details.difference_table(findings, comparison),
    )
    claims = ", ".join(str(claim) for claim in comparison.claims)
    parts = [f"At {'the last step' if comparison.at == 'last step' else 'equal steps'}."]
    if claims:
        parts.append(
            f"Speaks about claim {claims}." if len(comparison.claims) == 1 else f"Speaks about claims {claims}."
        )
    if comparison.drawn_in:
        parts.append(f"Published in {comparison.drawn_in}.")
    return Part(
        title=name,
        anchor=f"comparison-{key}",
        text=" ".join(parts),
        content=tuple(item for item in content if item is not None),
    )


def other_section(findings: Findings) -> Section:
    """Curves of arms that no comparison at equal steps has drawn, by base model."""
    drawn = {arm for c in findings.study.comparisons if c.at == "equal steps" for arm in c.arms}
    by_model: dict[str, list[str]] = {}
    for arm in findings.study.arms:
        if arm not in drawn:
            by_model.setdefault(findings.study.conditions(arm).model, []).append(arm)
    together = [
        (model, arms[start : start + MAX_ARMS])
        for model, arms in by_model.items()
        for start in range(0, len(arms), MAX_ARMS)
    ]
    drawings = []
    for number, (model, arms) in enumerate(together, start=1):
        key = f"curves-other-{number:02}-{words.slug(model)}"
        drawing = trajectory_drawing(findings, arms, key=key, title=f"{words.one_line(model)}: scores over steps")
        if drawing:
            drawings.append(drawing)
    parts = (Part(content=tuple(drawings)),) if drawings else ()
    return Section(title="Other arms", anchor="other-arms", parts=parts)


def asymmetry_section(findings: Findings) -> Section:
    """Reasoning against safety."""
    drawing, table = asymmetry_drawing(findings, key="asymmetry"), details.asymmetry_table(findings)
    parts = (Part(content=(drawing, table)),) if drawing and table else ()
    return Section(title="Reasoning against safety", anchor="asymmetry", parts=parts)


def form_section(findings: Findings) -> Section:
    """Form against accuracy, the figures arm by arm."""
    table = details.form_table(findings)
    parts = [Part(content=(table,))] if table else []
    for number, arm in enumerate(findings.study.arms, start=1):
        drawing = form_drawing(findings, arm, key=f"form-{number:02}-{words.slug(arm)}")
        if drawing:
            parts.append(Part(title=words.one_line(arm), content=(drawing,), is_closed=True))
    return Section(
        title="Form and accuracy",
        anchor="form",
        text="A score can rise because more responses have an answer that can be taken (form), or because more of "
        "those answers are right (accuracy).",
        parts=tuple(parts),
    )


def _tables(title: str, anchor: str, *tables: Table | None) -> Section:
    found = tuple(table for table in tables if table is not None and table.rows)
    parts = tuple(
        Part(title=table.caption, content=(table,), is_closed=True) if len(table.rows) > 20 else Part(content=(table,))
        for table in found
    )
    return Section(title=title, anchor=anchor, parts=parts)
