"""Puts the page together. Names come from files that others wrote: everything is escaped, and nothing is loaded."""

import base64
import dataclasses
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
from markupsafe import Markup

from megatron_sft.files import write_bytes, write_text
from megatron_sft.studies.finding.findings import ClaimFinding, Evidence, Findings
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
    findings = without_idle_averages(findings)
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
    for path in (folder / FIGURES).iterdir():
        # Of a study that had other arms.
        if path.suffix in (".png", ".svg") and path not in written:
            path.unlink()
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
    page = environment.get_template("page.html.jinja").render(
        study=findings.study,
        claims=sorted_claims(findings.claims),
        claim_tones=CLAIM_TONES,
        outcome_signs=OUTCOME_SIGNS,
        predictions_of=predictions_of,
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
    return with_shared_styles(page)


def with_shared_styles(page: str) -> str:
    """Give each style that figures repeat a class: a page of many figures is then half as long."""
    names: dict[str, str] = {}

    def shorten(tag: re.Match[str]) -> str:
        return re.sub(r' style="([^"]*)"', lambda style: f' class="{name_of(style[1])}"', tag[0])

    def name_of(style: str) -> str:
        return names.setdefault(style, f"s{len(names)}")

    def shorten_figure(figure: re.Match[str]) -> str:
        return re.sub(r"<[a-z][^>]*>", shorten, figure[0])

    page = re.sub(r"<svg\b.*?</svg>", shorten_figure, page, flags=re.DOTALL)
    rules = "".join(f".{name}{{{style}}}\n" for style, name in names.items())
    return page.replace("</style>", f"{rules}</style>", 1)


def sorted_claims(claims: Sequence[ClaimFinding]) -> list[ClaimFinding]:
    """What was decided first, then what could not be, then what was not tested; in each the study's order."""
    undecided = ("not resolved", "not tested")
    return sorted(claims, key=lambda c: undecided.index(c.verdict) + 1 if c.verdict in undecided else 0)


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a claim predicts, and the evidence."""

    statement: str
    decided: tuple[Evidence, ...]
    """What fails, then what holds."""
    rest: tuple[Evidence, ...]
    """What is open, then what has no figures."""

    @property
    def summary(self) -> str:
        """How much of what the rest is."""
        num_open = sum(evidence.outcome == "open" for evidence in self.rest)
        parts = [f"{num_open} not resolved"] if num_open else []
        if len(self.rest) > num_open:
            parts.append(f"{len(self.rest) - num_open} without figures")
        return ", ".join(parts)


def predictions_of(claim: ClaimFinding) -> list[Prediction]:
    """The evidence by statement."""
    outcomes = list(OUTCOME_SIGNS)
    found = []
    for statement in dict.fromkeys(evidence.statement for evidence in claim.evidence):
        own = sorted(
            (evidence for evidence in claim.evidence if evidence.statement == statement),
            key=lambda evidence: outcomes.index(evidence.outcome),
        )
        decided = tuple(evidence for evidence in own if evidence.outcome in ("fails", "holds"))
        found.append(Prediction(statement=statement, decided=decided, rest=tuple(own[len(decided) :])))
    return found


def without_idle_averages(findings: Findings) -> Findings:
    """Leave out averages of a single benchmark, which say again what it says."""
    shown = tuple(t for t in findings.trajectories if len(t.members) != 1)
    idle = {t.benchmark for t in findings.trajectories if t.is_average}
    idle -= {t.benchmark for t in shown}
    return dataclasses.replace(
        findings,
        trajectories=shown,
        differences=tuple(d for d in findings.differences if d.benchmark not in idle),
    )


def verdict_counts(claims: Sequence[ClaimFinding]) -> list[tuple[str, int]]:
    """How many claims have which verdict."""
    counts = [(verdict, sum(claim.verdict == verdict for claim in claims)) for verdict in CLAIM_TONES]
    return [(verdict, count) for verdict, count in counts if count]
