"""Verdicts: a matrix of arms and benchmarks, and every curve with all of its figures."""

from collections.abc import Sequence

from megatron_sft.studies.analysis.shape import Shape, Verdict
from megatron_sft.studies.finding.findings import Findings, Origin, Trajectory
from megatron_sft.studies.report import words
from megatron_sft.studies.report.table import Cell, Column, Table, Tone, figure, label

TONES: dict[Verdict, Tone] = {
    Verdict.DIP_AND_RECOVERY: "up",
    Verdict.MONOTONE_GAIN: "up",
    Verdict.GAIN: "up",
    Verdict.DIP: "mixed",
    Verdict.DECLINE: "down",
    Verdict.FLAT: "",
    Verdict.NOT_RESOLVED: "open",
}
SIGNS: dict[Verdict, str] = {
    Verdict.DIP_AND_RECOVERY: "↘↗",
    Verdict.MONOTONE_GAIN: "↗",
    Verdict.GAIN: "↑",
    Verdict.DIP: "↘?",
    Verdict.DECLINE: "↓",
    Verdict.FLAT: "=",
    Verdict.NOT_RESOLVED: "?",
}


def badge(verdict: Verdict) -> str:
    """A verdict with its sign."""
    return f"{SIGNS[verdict]} {verdict.value}"


def verdict_matrix(findings: Findings, origin: Origin) -> Table | None:
    """Arms down, benchmarks across; None without verdicts."""
    judged = [t for t in findings.trajectories if t.origin == origin and t.shape is not None]
    if not judged:
        return None
    columns = words.ordered(findings.study, (t.benchmark for t in judged))
    by_place = {(t.arm, t.benchmark): t for t in judged}
    arms = [arm for arm in findings.study.arms if any(t.arm == arm for t in judged)]
    first_of = {column: next(t for t in judged if t.benchmark == column) for column in columns}
    groups = [first_of[column].group for column in columns]
    return Table(
        caption=f"Verdict of each curve ({origin}): change of the last step from base, depth and step of the dip",
        columns=(
            Column(title="arm", is_text=True),
            *(
                Column(title=words.column_title(findings.study, column), note=_note(first_of[column]))
                for column in columns
            ),
        ),
        groups=tuple((group, groups.count(group)) for group in dict.fromkeys(groups)),
        rows=tuple(
            (
                label(words.one_line(arm), link=f"#curves-{origin}"),
                *(_matrix_cell(by_place.get((arm, column))) for column in columns),
            )
            for arm in arms
        ),
    )


def _note(trajectory: Trajectory) -> str:
    return trajectory.unit + (", lower is better" if trajectory.better == "lower" else "")


def _of_what(findings: Findings, trajectory: Trajectory) -> str:
    """The members of an average, which an arm may have fewer of; the unit of a benchmark."""
    if not trajectory.is_average:
        return _note(trajectory)
    return "of " + ", ".join(words.column_title(findings.study, column) for column in trajectory.members)


def _matrix_cell(trajectory: Trajectory | None) -> Cell:
    if trajectory is None or trajectory.shape is None:
        return Cell(text=words.NONE)
    shape, digits = trajectory.shape, words.digits_of(trajectory.unit)
    change, low, high = trajectory.final_change
    lines = [words.signed_interval(low, high, digits)]
    dip = shape.dip
    if shape.verdict == Verdict.DECLINE:
        worst = f"{words.number(dip.depth, digits)} {words.interval(*dip.interval, digits)}"
        lines.append(f"at worst {worst}, at {words.step(dip.step)}")
    elif dip.is_resolved:
        lines.append(f"dip {words.number(dip.depth, digits)} {words.interval(*dip.interval, digits)}")
        lines.append(f"at {words.step(dip.step)}" + _recovered(shape))
    elif dip.depth > 0:
        upper = words.number(dip.interval[1], digits)
        lines.append(f"dip {words.number(dip.depth, digits)} (0 to {upper}), not resolved")
    return Cell(
        text=words.signed(change, digits),
        small=tuple(lines),
        tone=TONES[shape.verdict],
        badge=badge(shape.verdict),
        sort=change,
    )


def _recovered(shape: Shape) -> str:
    if shape.recovery.step is None:
        return ", not back at base"
    return f", back at {words.step(shape.recovery.step)}"


CURVE_COLUMNS = (
    Column(title="arm", is_text=True),
    Column(title="benchmark", is_text=True),
    Column(title="verdict", is_text=True),
    Column(title="steps", note="base included"),
    Column(title="base", note="95 % interval"),
    Column(title="last", note="95 % interval"),
    Column(title="change", note="95 % interval"),
    Column(title="dip", note="all steps together"),
    Column(title="dip, corrected", note="less its bias"),
    Column(title="lowest at", note="possible steps"),
    Column(title="at or above base from", note="earliest to latest"),
    Column(title="late fall", note="all steps together"),
    Column(title="detectable", note="in 80 % of studies"),
)


def curve_table(findings: Findings, origin: Origin) -> Table | None:
    """Every curve with a verdict, a row each."""
    judged = [t for t in findings.trajectories if t.origin == origin and t.shape is not None]
    if not judged:
        return None
    columns = words.ordered(findings.study, (t.benchmark for t in judged))
    arms = list(findings.study.arms)
    judged.sort(key=lambda t: (arms.index(t.arm), columns.index(t.benchmark)))
    return Table(
        caption=f"All curves ({origin}). Scores and changes are in the benchmark's unit; a change below 0 is good "
        "where lower is better, and dips and late falls are then rises",
        columns=CURVE_COLUMNS,
        rows=tuple(_curve_row(findings, t) for t in judged),
    )


def _curve_row(findings: Findings, trajectory: Trajectory) -> tuple[Cell, ...]:
    shape, curve, digits = trajectory.shape, trajectory.curve, words.digits_of(trajectory.unit)
    assert shape is not None
    low, high = curve.band()
    change = trajectory.final_change
    dip, back = shape.dip, shape.recovery
    scores = [
        figure(words.number(curve.means[i], digits), curve.means[i], words.interval(low[i], high[i], digits))
        for i in (0, -1)
    ]
    possible = _possible(dip.possible_steps, len(curve.steps) - 1)
    return (
        label(words.one_line(trajectory.arm)),
        label(words.column_title(findings.study, trajectory.benchmark), _of_what(findings, trajectory)),
        Cell(badge=badge(shape.verdict), tone=TONES[shape.verdict], sort=shape.verdict.value),
        figure(str(len(curve.steps)), len(curve.steps)),
        *scores,
        figure(words.signed(change[0], digits), change[0], words.signed_interval(*change[1:], digits)),
        figure(words.number(dip.depth, digits), dip.depth, words.interval(*dip.interval, digits)),
        figure(words.number(dip.corrected_depth, digits), dip.corrected_depth),
        Cell(text=words.step(dip.step, "nowhere"), small=(possible,), sort=dip.step),
        Cell(
            text=words.step(back.step, "never"),
            small=(f"({words.step(back.earliest, 'never')} to {words.step(back.latest, 'not shown')})",),
            sort=back.step,
        ),
        Cell(
            text=words.interval(*shape.late_fall, digits),
            small=("resolved",) if shape.late_fall[0] > 0 else (),
            sort=shape.late_fall[0],
        ),
        figure(words.number(shape.detectable, digits), shape.detectable),
    )


def _possible(steps: Sequence[int], num_steps: int) -> str:
    return "(any)" if len(steps) == num_steps and num_steps > 1 else f"({words.steps(steps)})"
