"""Findings as CSV files and as JSON; docs/study-findings.md has the columns."""

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from megatron_sft.files import write_text
from megatron_sft.studies.finding.findings import Findings, Trajectory
from megatron_sft.studies.study import CONDITIONS

Row = Mapping[str, Any]
ENCODING = "utf-8"


def write_csv(findings: Findings, folder: Path) -> list[Path]:
    """Write one file for each table, replacing it as a whole; a table without rows has its head only."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, (columns, rows_of) in TABLES.items():
        path = folder / f"{name}.csv"
        write_text(path, csv_text(columns, rows_of(findings)))
        paths.append(path)
    return paths


def csv_text(columns: str, rows: Iterable[Row]) -> str:
    """Return rows as CSV (RFC 4180, but lines end with a line feed); what a row lacks, None and nan are empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns.split(), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _cell(value) for name, value in row.items()})
    return text.getvalue()


def _cell(value: Any) -> str:
    if value is None or value != value:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | str):
        return str(value)
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    return f"{float(value):.8g}"


def _arms(findings: Findings) -> Iterator[Row]:
    for arm in findings.study.arms:
        conditions = findings.study.conditions(arm)
        yield {"arm": arm, **{name: getattr(conditions, name) for name in CONDITIONS}}


def _head(one: Trajectory) -> dict[str, Any]:
    return {
        "origin": one.origin,
        "arm": one.arm,
        "benchmark": one.benchmark,
        "group": one.group,
        "is_average": one.is_average,
        "unit": one.unit,
        "better": one.better,
    }


def _scores(findings: Findings) -> Iterator[Row]:
    for one in findings.trajectories:
        curve = one.curve
        low, high = curve.band(findings.confidence)
        change_low, change_high = curve.contrasts.band(findings.confidence)
        points = {point.step: point for point in one.points}
        for row, step in enumerate(curve.steps):
            change = {"change": 0.0}
            if row:
                change = {
                    "change": curve.changes[row - 1],
                    "change_lower": change_low[row - 1],
                    "change_upper": change_high[row - 1],
                }
            point = points.get(step)
            known = {name: getattr(point, name) for name in POINT if point is not None}
            yield {
                **_head(one),
                "step": step,
                "score": curve.means[row],
                "stderr": curve.stderr[row],
                "lower": low[row],
                "upper": high[row],
                **change,
                **known,
            }


POINT = (
    *("num_items", "num_samples", "share_cut_off", "share_extracted", "accuracy_among_extracted"),
    *("accuracy_among_finished", "repetition_rate", "mean_length"),
)


def _verdicts(findings: Findings) -> Iterator[Row]:
    for one in findings.trajectories:
        final = one.final_change
        row = {
            **_head(one),
            "members": one.members,
            "last_step": one.curve.steps[-1],
            "final_change": final[0],
            "final_change_lower": final[1],
            "final_change_upper": final[2],
        }
        shape = one.shape
        if shape is not None:
            dip, recovery = shape.dip, shape.recovery
            row |= {
                "verdict": shape.verdict.value,
                "dip_depth": dip.depth,
                "dip_depth_lower": dip.interval[0],
                "dip_depth_upper": dip.interval[1],
                "dip_depth_corrected": dip.corrected_depth,
                "dip_step": dip.step,
                "dip_possible_steps": dip.possible_steps,
                "dip_is_resolved": dip.is_resolved,
                "rise_is_resolved": dip.rise_is_resolved,
                "recovery_step": recovery.step,
                "recovery_earliest": recovery.earliest,
                "recovery_latest": recovery.latest,
                "late_fall_lower": shape.late_fall[0],
                "late_fall_upper": shape.late_fall[1],
                "detectable": shape.detectable,
                "margin": shape.margin,
            }
        yield row


def _lengths(findings: Findings) -> Iterator[Row]:
    for one in findings.trajectories:
        if one.lengths is None:
            continue
        curve = one.lengths.curve
        low, high = curve.band(findings.confidence)
        for row, step in enumerate(curve.steps):
            yield {
                **_head(one),
                "step": step,
                "statistic": one.lengths.statistic,
                "limit": one.lengths.limit,
                "length": curve.means[row],
                "lower": low[row],
                "upper": high[row],
                "share_cut": one.lengths.share_cut[row],
            }


def _turns(findings: Findings) -> Iterator[Row]:
    for one in findings.trajectories:
        turning, order = one.turning, one.order
        if turning is None:
            continue
        shares = ("length_first", "same_step", "score_first")
        yield {
            **_head(one),
            "turn": turning.turn.value,
            "longest_step": turning.step,
            "possible_steps": turning.possible_steps,
            "rise_lower": turning.rise[0],
            "rise_upper": turning.rise[1],
            "fall_lower": turning.fall[0],
            "fall_upper": turning.fall[1],
            **{name: getattr(order, name) for name in shares if order is not None},
        }


def _form(findings: Findings) -> Iterator[Row]:
    for one in findings.trajectories:
        parts = one.parts
        if parts is None:
            continue
        for row, step in enumerate(parts.steps):
            figures = {
                f"{name}{end}": value
                for name in ("gain", "form", "accuracy")
                for end, value in (
                    ("", getattr(parts, name)[row]),
                    ("_lower", getattr(parts, f"{name}_interval")[0][row]),
                    ("_upper", getattr(parts, f"{name}_interval")[1][row]),
                )
            }
            yield {
                **_head(one),
                "step": step,
                **figures,
                "share_extracted": parts.share_extracted[row + 1],
                "accuracy_among_extracted": parts.accuracy_among_extracted[row + 1],
            }


def _comparisons(findings: Findings) -> Iterator[Row]:
    for one in findings.differences:
        found = one.differences
        for row, step in enumerate(found.steps):
            yield {
                "origin": one.origin,
                "comparison": one.comparison,
                "first": one.first,
                "second": one.second,
                "benchmark": one.benchmark,
                "what": one.what,
                "paired": one.paired,
                "unit": one.unit,
                "better": one.better,
                "step": step,
                "difference": found.estimate[row],
                "stderr": found.stderr[row],
                "lower": found.lower[row],
                "upper": found.upper[row],
            }


def _asymmetry(findings: Findings) -> Iterator[Row]:
    for one in findings.asymmetries:
        gain, harm = one.asymmetry.gain, one.asymmetry.harm
        for row, step in enumerate(gain.steps):
            yield {
                "origin": one.origin,
                "arm": one.arm,
                "reasoning": one.reasoning,
                "harm": one.harm,
                "step": step,
                "gain": gain.estimate[row],
                "gain_lower": gain.lower[row],
                "gain_upper": gain.upper[row],
                "harm_change": harm.estimate[row],
                "harm_lower": harm.lower[row],
                "harm_upper": harm.upper[row],
                "verdict": one.asymmetry.verdict if step == gain.steps[-1] else None,
            }


def _claims(findings: Findings) -> Iterator[Row]:
    for one in findings.claims:
        outcomes = [evidence.outcome for evidence in one.evidence if not evidence.is_exception]
        counts = {name.replace(" ", "_"): outcomes.count(name) for name in ("holds", "fails", "open", "no data")}
        yield {"claim": one.number, "text": one.text, "verdict": one.verdict, **counts}


def _evidence(findings: Findings) -> Iterator[Row]:
    for claim in findings.claims:
        for one in claim.evidence:
            names = ("statement", "origin", "outcome", "is_exception", "confidence", "text")
            yield {"claim": claim.number, **{name: getattr(one, name) for name in names}}


def _power(findings: Findings) -> Iterator[Row]:
    for one in findings.power:
        yield vars(one)


def _times(findings: Findings) -> Iterator[Row]:
    for one in findings.times:
        yield vars(one)


_HEAD = "origin arm benchmark group is_average unit better"
TABLES: dict[str, tuple[str, Callable[[Findings], Iterator[Row]]]] = {
    "arms": (f"arm {' '.join(CONDITIONS)}", _arms),
    "scores": (
        f"{_HEAD} step score stderr lower upper change change_lower change_upper {' '.join(POINT)}",
        _scores,
    ),
    "verdicts": (
        f"{_HEAD} members last_step final_change final_change_lower final_change_upper verdict dip_depth "
        "dip_depth_lower dip_depth_upper dip_depth_corrected dip_step dip_possible_steps dip_is_resolved "
        "rise_is_resolved recovery_step recovery_earliest recovery_latest late_fall_lower late_fall_upper detectable "
        "margin",
        _verdicts,
    ),
    "lengths": (f"{_HEAD} step statistic limit length lower upper share_cut", _lengths),
    "turns": (
        f"{_HEAD} turn longest_step possible_steps rise_lower rise_upper fall_lower fall_upper length_first same_step "
        "score_first",
        _turns,
    ),
    "form": (
        f"{_HEAD} step gain gain_lower gain_upper form form_lower form_upper accuracy accuracy_lower accuracy_upper "
        "share_extracted accuracy_among_extracted",
        _form,
    ),
    "comparisons": (
        "origin comparison first second benchmark what paired unit better step difference stderr lower upper",
        _comparisons,
    ),
    "asymmetry": (
        "origin arm reasoning harm step gain gain_lower gain_upper harm_change harm_lower harm_upper verdict",
        _asymmetry,
    ),
    "claims": ("claim text verdict holds fails open no_data", _claims),
    "evidence": ("claim statement origin outcome is_exception confidence text", _evidence),
    "power": ("benchmark num_items num_samples detectable basis", _power),
    "times": ("name kind seconds attempts", _times),
}
"""Name of the file: its columns, and what gives the rows."""
