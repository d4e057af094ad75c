"""Findings made by hand: curves of planted shapes, so that what the page must show is known."""

import dataclasses
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from megatron_sft.studies.analysis.comparisons import Differences, asymmetry, compare_arms
from megatron_sft.studies.analysis.curve import Curve, Values, average, from_items, from_means
from megatron_sft.studies.analysis.extraction import GainParts, gain_parts
from megatron_sft.studies.analysis.lengths import lengths_of, order_of_turns, turning_point
from megatron_sft.studies.analysis.shape import Shape, shape_of
from megatron_sft.studies.finding.findings import (
    ArmAsymmetry,
    ArmDifference,
    ClaimFinding,
    Evidence,
    Findings,
    Point,
    PowerRow,
    StageTime,
    Trajectory,
)
from megatron_sft.studies.reference import ReferenceRow, ReferenceTable
from megatron_sft.studies.report.page import write
from megatron_sft.studies.study import ArmSpec, Axes, BenchmarkSpec, ComparisonSpec, Conditions, Study

STEPS = (0, 10, 20, 40, 80, 160, 320, 640)
# Change from base at each step, as a share.
PLANTED = {
    "dip and recovery": (0.0, -0.08, -0.20, -0.10, 0.02, 0.10, 0.16, 0.20),
    "monotone gain": (0.0, 0.05, 0.10, 0.15, 0.19, 0.22, 0.24, 0.25),
    "decline": (0.0, -0.03, -0.06, -0.10, -0.14, -0.17, -0.19, -0.20),
    "noise": (0.0,) * 8,
}
BENCHMARKS = {
    "sums": BenchmarkSpec(
        task="sums", title="Sums <of> digits", group="in-domain", unit="per cent", num_items=200, num_samples=2
    ),
    "sorting": BenchmarkSpec(
        task="sorting", title="Sorting", group="out-of-domain", unit="per cent", num_items=200, num_samples=2
    ),
    "words": BenchmarkSpec(
        task="words", title="Words", group="out-of-domain", unit="per cent", num_items=200, num_samples=2
    ),
    "attack": BenchmarkSpec(
        task="attack", title="Attack", group="safety", unit="per cent", num_items=200, num_samples=2, better="lower"
    ),
}
SHAPES = list(PLANTED)
NUM_DRAWS = 200


def plant(changes: Sequence[float], base: float, num_items: int, seed: int) -> Values:
    """Per-item scores [S, I] of two answers each, around the planted means."""
    generator = np.random.default_rng(seed)
    hardness = generator.normal(0, 0.15, num_items)
    chance = np.clip(base + np.asarray(changes)[:, None] + hardness, 0.01, 0.99)
    return generator.binomial(2, chance) / 2


def points_of(curve: Curve, num_items: int) -> tuple[Point, ...]:
    return tuple(
        Point(
            step=step,
            num_items=num_items,
            num_samples=2 * num_items,
            share_cut_off=0.1,
            share_extracted=0.9,
            accuracy_among_extracted=0.5,
            accuracy_among_finished=0.5,
            repetition_rate=0.0,
            mean_length=500.0,
        )
        for step in curve.steps
    )


def shape_for(curve: Curve, better: str) -> Shape:
    if better == "higher":
        return shape_of(curve, margin=5.0)
    turned = from_means(curve.steps, -curve.means, curve.stderr, 3, correlation=0.5, num_draws=NUM_DRAWS)
    return shape_of(turned, margin=5.0)


def measured(arm: str, column: str, changes: Sequence[float], seed: int, num_items: int) -> tuple[Trajectory, Values]:
    """A measured trajectory with lengths and parts, and its scores."""
    benchmark = BENCHMARKS[column]
    scores = plant(changes, 0.4, num_items, seed)
    curve = from_items(STEPS, 100 * scores, seed, num_draws=NUM_DRAWS, span=100)
    generator = np.random.default_rng(seed)
    typical = np.array([200, 500, 900, 800, 600, 450, 400, 380])[:, None, None]
    tokens = np.minimum(generator.gamma(4, typical / 4, (len(STEPS), num_items, 2)), 1000).round()
    lengths = lengths_of(STEPS, tokens, tokens >= 1000, seed, num_draws=NUM_DRAWS)
    extracted = np.maximum(scores, generator.binomial(2, 0.3 + 0.08 * np.arange(len(STEPS)))[:, None] / 2)
    return Trajectory(
        arm=arm,
        benchmark=column,
        group=benchmark.group,
        is_average=False,
        better=benchmark.better,
        unit="per cent",
        origin="measured",
        curve=curve,
        shape=shape_for(curve, benchmark.better),
        points=points_of(curve, num_items),
        lengths=lengths,
        turning=turning_point(lengths.curve),
        order=order_of_turns(lengths.curve, curve),
        parts=in_per_cent(gain_parts(STEPS, scores, extracted, seed, num_draws=NUM_DRAWS)),
    ), scores


def in_per_cent(parts: GainParts) -> GainParts:
    names = ("gain", "form", "accuracy")
    return dataclasses.replace(
        parts, **{name: 100 * getattr(parts, name) for one in names for name in (one, f"{one}_interval")}
    )


def average_of(arm: str, group: str, curves: list[Trajectory]) -> Trajectory:
    curve = average([t.curve for t in curves])
    return Trajectory(
        arm=arm,
        benchmark=group,
        group=group,
        is_average=True,
        better="higher",
        unit="per cent",
        origin="measured",
        curve=curve,
        shape=shape_of(curve, margin=5.0),
        points=(),
        members=tuple(t.benchmark for t in curves),
    )


def published(arm: str, column: str) -> Trajectory:
    means = 40 + 100 * np.array(PLANTED["dip and recovery"]) + 3
    curve = from_means(STEPS, means, np.full(len(STEPS), 2.5), 5, num_draws=NUM_DRAWS)
    return Trajectory(
        arm=arm,
        benchmark=column,
        group=BENCHMARKS[column].group,
        is_average=False,
        better="higher",
        unit="per cent",
        origin="published",
        curve=curve,
        shape=shape_of(curve, margin=5.0),
        points=(),
    )


def study_of(arms: Sequence[str]) -> Study:
    conditions = Conditions(
        model="small",
        data_set="traces",
        teacher="a rule",
        learning_rate=1e-3,
        epochs=8,
        batch=32,
        schedule="cosine",
        last_step=640,
    )
    table = ReferenceTable(
        title="Table 1, a table that was published",
        columns="sums sorting",
        tags=("SOURCE",),
        rows=(
            ReferenceRow(model="small", step=0, cells="43.0 43.5"),
            ReferenceRow(arm=arms[0], step=640, cells="63.0 61.5*", doubt="a slip"),
        ),
    )
    return Study(
        name="planted",
        title="What was planted & what is found",
        axes=Axes(
            model=("small",),
            data_set=("traces",),
            teacher=("a rule",),
            learning_rate=(1e-3, 1e-4),
            epochs=(8,),
            batch=(32,),
            schedule=("cosine",),
            last_step=(640,),
        ),
        base=conditions,
        steps=STEPS[1:],
        benchmarks=BENCHMARKS,
        arms={arm: ArmSpec(recipe="r", learning_rate=1e-4 if i else None) for i, arm in enumerate(arms)},
        claims={"1": "scores dip and recover", "2": "nothing is lost", "3": "larger is better"},
        comparisons=(
            ComparisonSpec(name="first arms", arms=tuple(arms[:3]), at="equal steps", claims=(1,)),
            ComparisonSpec(name="the first two", arms=tuple(arms[:2]), claims=(1, 2), drawn_in="Table 1"),
        ),
        tags={"SOURCE": "a source"},
        reference={"table1": table},
    )


def differences_of(
    study: Study, scores: dict[tuple[str, str], Values], arms: Sequence[str]
) -> tuple[ArmDifference, ...]:
    found = []
    for comparison in study.comparisons:
        for second in comparison.arms[1:]:
            for column, benchmark in study.benchmarks.items():
                first = comparison.arms[0]
                steps = slice(1, None) if comparison.at == "equal steps" else slice(-1, None)
                differences: Differences = compare_arms(
                    STEPS[steps],
                    100 * scores[first, column][steps],
                    100 * scores[second, column][steps],
                    0,
                    num_draws=NUM_DRAWS,
                    span=100,
                )
                found.append(
                    ArmDifference(
                        comparison=comparison.name,
                        benchmark=column,
                        first=first,
                        second=second,
                        what="score",
                        paired=True,
                        origin="measured",
                        unit="per cent",
                        better=benchmark.better,
                        differences=differences,
                    )
                )
    return tuple(found)


CLAIMS = (
    ClaimFinding(
        number="1",
        text="scores dip and recover",
        verdict="supported",
        evidence=(
            Evidence(
                outcome="holds",
                text="sorting falls by 20.1 (12.0 to 28.2) at step 20",
                origin="measured",
                statement="it dips",
            ),
            Evidence(outcome="open", text="words: 1.0 (0.0 to 9.9)", origin="measured", statement="it dips"),
        ),
    ),
    ClaimFinding(number="2", text="nothing is lost", verdict="not resolved", evidence=()),
    ClaimFinding(
        number="3",
        text="larger is better",
        verdict="contradicted",
        evidence=(Evidence(outcome="fails", text="it is not: -3.0 (-5.0 to -1.0)", origin="published"),),
    ),
)


@pytest.fixture(scope="session")
def make_findings() -> Callable[..., Findings]:
    """Make findings of some arms; the i-th arm's curves have the i-th planted shape, rotating over benchmarks."""

    def make(arms: Sequence[str] = ("traces", "answers", "toy", "slow"), num_items: int = 200) -> Findings:
        study = study_of(arms)
        trajectories: list[Trajectory] = []
        scores: dict[tuple[str, str], Values] = {}
        for i, arm in enumerate(arms):
            own = []
            for j, column in enumerate(BENCHMARKS):
                changes = PLANTED[SHAPES[(i + j) % len(SHAPES)]]
                trajectory, scores[arm, column] = measured(arm, column, changes, 100 * i + j, num_items)
                own.append(trajectory)
            trajectories += [*own, average_of(arm, "out-of-domain", own[1:3])]
        trajectories.append(published(arms[0], "sums"))
        by_place = {(t.arm, t.benchmark, t.origin): t for t in trajectories}
        return Findings(
            study=study,
            trajectories=tuple(trajectories),
            differences=differences_of(study, scores, arms),
            asymmetries=tuple(
                ArmAsymmetry(
                    arm=arm,
                    reasoning="out-of-domain",
                    harm="attack",
                    origin="measured",
                    asymmetry=asymmetry(
                        by_place[arm, "out-of-domain", "measured"].curve, by_place[arm, "attack", "measured"].curve
                    ),
                )
                for arm in arms
            ),
            claims=CLAIMS,
            power=(
                PowerRow(benchmark="sums", num_items=200, num_samples=2, detectable=9.5, basis="measured errors"),
                PowerRow(benchmark="attack", num_items=200, num_samples=2, detectable=11.25, basis="assumed: 0.5"),
            ),
            times=(
                StageTime(name="shards", kind="data", seconds=12.25, attempts=1),
                StageTime(name="train traces", kind="train", seconds=754.0, attempts=2),
                StageTime(name="train answers", kind="train", seconds=4_000.0, attempts=1),
            ),
            margin=5.0,
            confidence=0.95,
            provenance={"commit": "0123abc", "seed": "0"},
            warnings=("arm slow was not evaluated at step 480",),
        )

    return make


@pytest.fixture(scope="session")
def findings(make_findings: Callable[..., Findings]) -> Findings:
    """A small study."""
    return make_findings()


class Markup(HTMLParser):
    """What a page has: its tables by caption, its identifiers, links and headings; tags must close in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.scopes: list[str | None] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.texts: dict[str, list[str]] = {}
        self.tags: list[str] = []
        self._open: list[str] = []
        self._caption = ""
        self._rows: list[list[str]] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append(tag)
        self.ids += [found["id"] or ""] if "id" in found else []
        self.links += [found["href"] or ""] if tag == "a" else []
        if tag == "th":
            self.scopes.append(found.get("scope"))
        if tag == "table":
            self._caption, self._rows = "", []
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("td", "th"):
            self._rows[-1].append("")
        elif tag in ("small", "br") and self._cell:
            self._rows[-1][-1] += " | "
        if tag not in ("meta", "br", "link", "img"):
            self._open.append(tag)
            self.texts.setdefault(tag, []).append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.ids += [value or "" for name, value in attrs if name == "id"]

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag
        if tag == "table":
            self.tables[self._caption.strip()] = self._rows

    def handle_data(self, data: str) -> None:
        for tag in {*self._open}:
            self.texts[tag][-1] += data
        if "caption" in self._open:
            self._caption += data
        elif self._cell:
            self._rows[-1][-1] += data

    @property
    def _cell(self) -> bool:
        return "td" in self._open or "th" in self._open

    def table(self, start: str) -> list[list[str]]:
        """The only table whose caption begins so."""
        (rows,) = [rows for caption, rows in self.tables.items() if caption.startswith(start)]
        return rows


@pytest.fixture(scope="session")
def parse() -> Callable[[str], Markup]:
    """Parse a page."""
    return Markup


@pytest.fixture(scope="session")
def report(findings: Findings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the small study's report."""
    folder = tmp_path_factory.mktemp("report")
    write(findings, folder)
    return folder
