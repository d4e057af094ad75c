"""Tables behind the verdicts: differences, asymmetry, form, lengths, power, conditions, wall time, provenance."""

import dataclasses
import math

import numpy as np

from megatron_sft.studies.finding.findings import Findings
from megatron_sft.studies.report import words
from megatron_sft.studies.report.contrasts import PUBLISHED, pair_of
from megatron_sft.studies.report.table import Cell, Column, Table, Tone, figure, label
from megatron_sft.studies.study import CONDITIONS, ComparisonSpec

KINDS = ("data", "train", "convert", "evaluate", "report")


def difference_table(findings: Findings, comparison: ComparisonSpec) -> Table | None:
    """Differences at the last common step."""
    found = [d for d in findings.differences if d.comparison == comparison.name]
    rows = []
    for d in found:
        end, digits = d.differences, words.digits_of(d.unit)
        last, low, high = end.estimate[-1], end.lower[-1], end.upper[-1]
        is_better = (last > 0) == (d.better == "higher")
        tone: Tone = "open" if low <= 0 <= high else "up" if is_better else "down"
        rows.append(
            (
                label(pair_of(d).removesuffix(PUBLISHED), *([d.origin] if d.origin == "published" else [])),
                label(words.column_title(findings.study, d.benchmark)),
                label(d.what, "same items" if d.paired else "independent"),
                figure(words.step(end.steps[-1]), end.steps[-1]),
                figure(words.signed(last, digits), last, words.signed_interval(low, high, digits), tone=tone),
                Cell(text=words.steps(end.above) or words.NONE, sort=len(end.above)),
                Cell(text=words.steps(end.below) or words.NONE, sort=len(end.below)),
            )
        )
    if not rows:
        return None
    return Table(
        caption=f"{words.one_line(comparison.name)}: differences at the last common step",
        columns=(
            Column(title="first minus second", is_text=True),
            Column(title="benchmark", is_text=True),
            Column(title="of", is_text=True),
            Column(title="step"),
            Column(title="difference", note="all steps together"),
            Column(title="above 0 at", note="resolved"),
            Column(title="below 0 at", note="resolved"),
        ),
        rows=tuple(rows),
    )


def asymmetry_table(findings: Findings) -> Table | None:
    """Gain and harm of each arm at the last step."""
    rows = []
    for a in findings.asymmetries:
        cells = []
        for d in (a.asymmetry.gain, a.asymmetry.harm):
            interval = words.signed_interval(d.lower[-1], d.upper[-1])
            cells.append(figure(words.signed(d.estimate[-1]), d.estimate[-1], interval))
        rows.append(
            (
                label(words.one_line(a.arm), a.origin),
                label(words.column_title(findings.study, a.reasoning)),
                cells[0],
                label(words.column_title(findings.study, a.harm)),
                cells[1],
                label(a.asymmetry.verdict),
            )
        )
    if not rows:
        return None
    return Table(
        caption="Change of reasoning and of harm from base at the last step",
        columns=(
            Column(title="arm", is_text=True),
            Column(title="reasoning", is_text=True),
            Column(title="change", note="both and all steps together"),
            Column(title="harm", is_text=True),
            Column(title="change", note="both and all steps together"),
            Column(title="verdict", is_text=True),
        ),
        rows=tuple(rows),
    )


def form_table(findings: Findings) -> Table | None:
    """Parts of the change at the last step."""
    rows = []
    for t in findings.trajectories:
        if t.parts is None:
            continue
        parts, digits = t.parts, words.digits_of(t.unit)
        cells = []
        for value, ends in (
            (parts.gain, parts.gain_interval),
            (parts.form, parts.form_interval),
            (parts.accuracy, parts.accuracy_interval),
        ):
            low, high = ends[0][-1], ends[1][-1]
            last = float(value[-1])
            cells.append(figure(words.signed(last, digits), last, words.signed_interval(low, high, digits)))
        extracted = [
            figure(words.share(found), found) for found in (parts.share_extracted[0], parts.share_extracted[-1])
        ]
        title = words.column_title(findings.study, t.benchmark)
        rows.append((label(words.one_line(t.arm)), label(title), *cells, *extracted))
    if not rows:
        return None
    intervals = "95 % interval"
    return Table(
        caption="Form and accuracy at the last step",
        columns=(
            Column(title="arm", is_text=True),
            Column(title="benchmark", is_text=True),
            Column(title="change", note=intervals),
            Column(title="form", note=intervals),
            Column(title="accuracy", note=intervals),
            Column(title="extracted, base"),
            Column(title="extracted, last"),
        ),
        rows=tuple(rows),
    )


def length_table(findings: Findings) -> Table | None:
    """Lengths and where they turn."""
    rows = []
    for t in findings.trajectories:
        if t.lengths is None:
            continue
        curve, turn, order = t.lengths.curve, t.turning, t.order
        low, high = curve.band()
        ends = [
            figure(words.number(curve.means[i], 0), curve.means[i], words.interval(low[i], high[i], 0)) for i in (0, -1)
        ]
        cut = t.lengths.share_cut
        most = int(np.argmax(cut))
        rows.append(
            (
                label(words.one_line(t.arm)),
                label(words.column_title(findings.study, t.benchmark), t.lengths.statistic),
                *ends,
                label(turn.turn.value) if turn else Cell(text=words.NONE),
                Cell(text=words.step(turn.step), small=(f"({words.steps(turn.possible_steps)})",), sort=turn.step)
                if turn
                else Cell(text=words.NONE),
                _range(turn.rise if turn else None),
                _range(turn.fall if turn else None),
                figure(words.share(cut[most]), cut[most], f"at {words.step(curve.steps[most])}"),
                figure(
                    words.share(order.length_first, 0),
                    order.length_first,
                    f"same step {words.share(order.same_step, 0)}, after {words.share(order.score_first, 0)}",
                )
                if order
                else Cell(text=words.NONE),
            )
        )
    if not rows:
        return None
    return Table(
        caption="Lengths of responses in tokens, and where they turn",
        columns=(
            Column(title="arm", is_text=True),
            Column(title="benchmark", is_text=True),
            Column(title="base", note="95 % interval"),
            Column(title="last", note="95 % interval"),
            Column(title="curve", is_text=True),
            Column(title="longest at", note="possible steps"),
            Column(title="rise", note="all steps together"),
            Column(title="fall", note="all steps together"),
            Column(title="most cut off"),
            Column(title="longest before lowest score", note="share of resamples"),
        ),
        rows=tuple(rows),
    )


def _range(ends: tuple[float, float] | None) -> Cell:
    if ends is None:
        return Cell(text=words.NONE)
    return Cell(text=f"{words.number(ends[0], 0)} to {words.number(ends[1], 0)}", sort=ends[0])


def power_table(findings: Findings) -> Table | None:
    """What each benchmark could have shown."""
    if not findings.power:
        return None
    rows = []
    for row in findings.power:
        benchmark = findings.study.benchmarks.get(row.benchmark.split("/")[0])
        digits = words.digits_of(benchmark.unit if benchmark else "")
        rows.append(
            (
                label(words.column_title(findings.study, row.benchmark)),
                figure(f"{row.num_items:,}", row.num_items),
                figure(f"{row.num_samples:,}", row.num_samples) if row.num_samples else Cell(text=words.NONE),
                figure(words.number(row.detectable, digits), row.detectable),
                label(row.basis),
            )
        )
    return Table(
        caption="Smallest change of one step from base that is resolved in 80 % of studies",
        columns=(
            Column(title="benchmark", is_text=True),
            Column(title="items"),
            Column(title="answers each"),
            Column(title="detectable change"),
            Column(title="basis", is_text=True),
        ),
        rows=tuple(rows),
    )


def condition_table(findings: Findings) -> Table:
    """What each arm was trained with; what differs from the study's base is marked."""
    study = findings.study
    rows = []
    for arm in study.arms:
        conditions = dataclasses.asdict(study.conditions(arm))
        cells = []
        for name in CONDITIONS:
            value = conditions[name]
            text = f"{value:g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else value
            tone: Tone = "mixed" if value != getattr(study.base, name) else ""
            sort = value.lower() if isinstance(value, str) else value
            cells.append(Cell(text=words.one_line(text), sort=sort, tone=tone))
        evaluated = study.evaluated_steps(arm)
        rows.append((label(words.one_line(arm)), *cells, Cell(text=words.steps(evaluated), sort=len(evaluated))))
    titles = [name.replace("_", " ") for name in CONDITIONS]
    return Table(
        caption="Conditions of each arm; marked: other than the study's base",
        columns=(
            Column(title="arm", is_text=True),
            *(
                Column(title=title, is_text=name in ("model", "data_set", "teacher", "schedule"))
                for name, title in zip(CONDITIONS, titles, strict=True)
            ),
            Column(title="evaluated steps", is_text=True),
        ),
        rows=tuple(rows),
    )


def time_tables(findings: Findings) -> list[Table]:
    """Wall time by kind of stage, and of each stage."""
    if not findings.times:
        return []
    kinds = [*KINDS, *dict.fromkeys(t.kind for t in findings.times if t.kind not in KINDS)]
    sums = {kind: [t.seconds for t in findings.times if t.kind == kind] for kind in kinds}
    total = math.fsum(t.seconds for t in findings.times)
    by_kind = [
        (
            Cell(text=kind, sort=kinds.index(kind)),
            figure(str(len(seconds)), len(seconds)),
            figure(words.duration(math.fsum(seconds)), math.fsum(seconds)),
            figure(words.share(math.fsum(seconds) / total if total else math.nan), math.fsum(seconds)),
        )
        for kind, seconds in sums.items()
        if seconds
    ]
    stages = [
        (
            label(words.one_line(t.name)),
            label(t.kind),
            figure(words.duration(t.seconds), t.seconds),
            figure(str(t.attempts), t.attempts),
        )
        for t in findings.times
    ]
    return [
        Table(
            caption=f"Wall time by kind of stage; all stages one after the other {words.duration(total)}",
            columns=(
                Column(title="kind", is_text=True),
                Column(title="stages"),
                Column(title="time"),
                Column(title="share"),
            ),
            rows=tuple(by_kind),
        ),
        Table(
            caption="Wall time of each stage",
            columns=(
                Column(title="stage", is_text=True),
                Column(title="kind", is_text=True),
                Column(title="time"),
                Column(title="attempts"),
            ),
            rows=tuple(stages),
        ),
    ]


def provenance_table(findings: Findings) -> Table | None:
    """What produced the figures."""
    if not findings.provenance:
        return None
    return Table(
        caption="What produced the figures",
        columns=(Column(title="what", is_text=True), Column(title="value", is_text=True)),
        rows=tuple((label(words.one_line(key)), label(value)) for key, value in findings.provenance.items()),
    )
