"""Puts the page together. Names come from files that others wrote: everything is escaped, and nothing is loaded."""

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path

import jinja2
from markupsafe import Markup

from megatron_sft.files import write_bytes, write_text
from megatron_sft.studies.findings import ClaimFinding, Evidence, Findings
from megatron_sft.studies.report import words
from megatron_sft.studies.report.canvas import Drawing
from megatron_sft.studies.report.palette import css_variables
from megatron_sft.studies.report.sections import Section, sections_of
from megatron_sft.studies.report.table import Tone

HERE = Path(__file__).parent
FIGURES = "figures"
CLAIM_TONES: dict[str, Tone] = {
    "supported": "up",
    "contradicted": "down",
    "mixed": "mixed",
    "not resolved": "open",
    "not tested": "open",
}
OUTCOME_SIGNS = {"fails": "✗", "holds": "✓", "open": "?", "no data": words.NONE}


def write(findings: Findings, folder: Path) -> list[Path]:
    """Write index.html and figures/*.png and *.svg into a folder; return the files."""
    sections = list(sections_of(findings))
    (folder / FIGURES).mkdir(parents=True, exist_ok=True)
    written = []
    items = [item for section in sections for part in section.parts for item in part.content]
    for drawing in (item for item in items if isinstance(item, Drawing)):
        png, svg = drawing.files()
        for ending, content in (("png", png), ("svg", svg.encode("utf-8"))):
            path = folder / FIGURES / f"{drawing.key}.{ending}"
            write_bytes(path, content)
            written.append(path)
    page = folder / "index.html"
    write_text(page, render(findings, sections))
    return [page, *written]


def render(findings: Findings, sections: Sequence[Section]) -> str:
    """The whole page as text."""
    loader = jinja2.FileSystemLoader(HERE)
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, loader=loader
    )
    script = (HERE / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    return environment.get_template("page.html.jinja").render(
        study=findings.study,
        claims=sorted_claims(findings.claims),
        claim_tones=CLAIM_TONES,
        outcome_signs=OUTCOME_SIGNS,
        evidence_of=evidence_of,
        counts=verdict_counts(findings.claims),
        warnings=findings.warnings,
        sections=sections,
        origins=sorted({t.origin for t in findings.trajectories}),
        margin=words.number(findings.margin),
        confidence=words.share(findings.confidence, 0),
        light=Markup(css_variables(0)),
        dark=Markup(css_variables(1)),
        style=Markup((HERE / "page.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_digest=digest,
        figures=FIGURES,
        slug=words.slug,
        svg=Markup,
    )


def sorted_claims(claims: Sequence[ClaimFinding]) -> list[ClaimFinding]:
    """What was decided first, then what could not be, then what was not tested; in each the study's order."""
    undecided = ("not resolved", "not tested")
    return sorted(claims, key=lambda c: undecided.index(c.verdict) + 1 if c.verdict in undecided else 0)


def evidence_of(claim: ClaimFinding) -> tuple[list[Evidence], list[Evidence], str]:
    """What speaks against a claim, then what speaks for it; the rest; and how much of what the rest is."""
    outcomes = list(OUTCOME_SIGNS)
    in_order = sorted(claim.evidence, key=lambda evidence: outcomes.index(evidence.outcome))
    decided = [evidence for evidence in in_order if evidence.outcome in ("fails", "holds")]
    rest = in_order[len(decided) :]
    num_open = sum(evidence.outcome == "open" for evidence in rest)
    parts = [f"{num_open} not resolved"] if num_open else []
    if len(rest) > num_open:
        parts.append(f"{len(rest) - num_open} without figures")
    return decided, rest, ", ".join(parts)


def verdict_counts(claims: Sequence[ClaimFinding]) -> list[tuple[str, int]]:
    """How many claims have which verdict."""
    counts = [(verdict, sum(claim.verdict == verdict for claim in claims)) for verdict in CLAIM_TONES]
    return [(verdict, count) for verdict, count in counts if count]
