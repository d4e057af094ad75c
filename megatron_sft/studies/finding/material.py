"""Figures of one origin, asked in one way: what is measured, and what is published as means alone."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from megatron_sft.studies.analysis.comparisons import Differences, compare_means
from megatron_sft.studies.analysis.curve import CONFIDENCE
from megatron_sft.studies.claims import GROUPS, Of
from megatron_sft.studies.finding.findings import Origin, Trajectory
from megatron_sft.studies.finding.published import binomial_stderr, published_cells, published_curves, usable
from megatron_sft.studies.finding.trajectories import averages, group_members, make_trajectory
from megatron_sft.studies.study import Study

Pairs = Sequence[tuple[int, int]]
"""Steps of the first arm, each with one of the second."""


class Material(ABC):
    """Trajectories and differences of one origin."""

    origin: Origin
    is_paired: bool
    """Whether differences of arms are those of the same items."""

    def __init__(self, study: Study, margin: float) -> None:
        self.study = study
        self.margin = margin
        self.trajectories: dict[tuple[str, str], Trajectory] = {}
        """By arm and column or group; in the study's order."""

    @abstractmethod
    def steps(self, arm: str, column: str) -> tuple[int, ...]:
        """Steps at which an arm has a score that can be compared, base (0) too where there is one."""

    @abstractmethod
    def difference(
        self, first: str, second: str, column: str, pairs: Pairs, of: Of, *, confidence: float = CONFIDENCE
    ) -> Differences | None:
        """Return first minus second on a column or group; None where the figures do not allow it."""

    def can_compare(self, first: str, second: str, column: str, pairs: Pairs, of: Of) -> bool:
        """Whether `difference` has something to say."""
        return bool(pairs) and self.difference(first, second, column, pairs, of) is not None

    def remark(self, arms: Sequence[str], column: str) -> str:
        """Say why there are no figures of arms on a column or group."""
        return "no figures"

    def of(self, arm: str) -> list[Trajectory]:
        """The trajectories of an arm."""
        return [one for (owner, _), one in self.trajectories.items() if owner == arm]

    def columns(self) -> tuple[str, ...]:
        """Every column, then every group."""
        return (*self.study.columns(), *GROUPS)

    def last_steps(self, first: str, second: str, column: str) -> list[tuple[int, int]]:
        """Each arm's own last step after base; empty where one has none."""
        ends = [[step for step in self.steps(arm, column) if step > 0][-1:] for arm in (first, second)]
        return list(zip(*ends, strict=False))

    def equal_steps(self, first: str, second: str, column: str) -> list[tuple[int, int]]:
        """All steps after base that both arms have."""
        there = self.steps(second, column)
        return [(step, step) for step in self.steps(first, column) if step > 0 and step in there]

    def shares_base(self, first: str, second: str) -> bool:
        """Whether both arms start from the same model."""
        return self.study.conditions(first).model == self.study.conditions(second).model


class Published(Material):
    """Reference numbers as if they were results: arms known at their last step only are curves of two points."""

    origin: Origin = "published"
    is_paired = False

    def __init__(self, study: Study, margin: float, seed: int, *, correlation: float = 0.0) -> None:
        super().__init__(study, margin)
        self._correlation = correlation
        self._numbers = {
            (arm, column): usable(published_cells(study, arm, column))
            for arm in study.arms
            for column in study.columns()
        }
        for arm in study.arms:
            curves = published_curves(study, arm, seed, correlation=correlation)
            own = [make_trajectory(study, arm, name, "published", c, (), margin=margin) for name, c in curves.items()]
            for one in [*own, *averages(study, own, margin=margin)]:
                self.trajectories[arm, one.benchmark] = one

    def steps(self, arm: str, column: str) -> tuple[int, ...]:
        """See `Material`; of a group the steps that all of its known columns have."""
        if column not in GROUPS:
            return tuple(self._numbers[arm, column])
        members = group_members(self.study, column)
        known = [self._numbers[arm, member] for member in members if self._numbers[arm, member]]
        return tuple(sorted(set.intersection(*map(set, known)))) if known else ()

    def difference(
        self, first: str, second: str, column: str, pairs: Pairs, of: Of, *, confidence: float = CONFIDENCE
    ) -> Differences | None:
        """See `Material`: every number has an error of its own, so intervals are wider than those of paired items."""
        if of == "length" or not pairs:
            return None
        columns = group_members(self.study, column) if column in GROUPS else [column]
        changes = of == "change from base" and not self.shares_base(first, second)
        found = [self._estimates(first, second, member, pairs, changes) for member in columns]
        known = [pair for pair in found if pair is not None]
        if not known:
            return None
        estimate = np.mean([means for means, _ in known], axis=0)
        stderr = np.sqrt(np.sum([variances for _, variances in known], axis=0)) / len(known)
        return compare_means([step for step, _ in pairs], estimate, stderr, confidence=confidence)

    def remark(self, arms: Sequence[str], column: str) -> str:
        """See `Material`: numbers that there are without an interval, and those in doubt."""
        texts = [] if column in GROUPS else [self._cells_text(arm, column) for arm in arms]
        if not any(texts):
            return "no published figures"
        unit = self.study.benchmark_of(column).unit
        why = "spread not published" if unit == "points" else "too few figures without doubt"
        return f"{'; '.join(text or f'{arm} none' for arm, text in zip(arms, texts, strict=True))}: {why}"

    def _cells_text(self, arm: str, column: str) -> str:
        cells = published_cells(self.study, arm, column)
        ends = {
            step: cells[step] for step in (0, max(cells, default=0)) if step in cells and cells[step].value is not None
        }
        if not any(ends):
            return ""
        texts = [f"{cell.value:g}{' (in doubt)' if cell.mark else ''} at step {step}" for step, cell in ends.items()]
        return f"{arm} {', '.join(texts)}"

    def _estimates(
        self, first: str, second: str, column: str, pairs: Pairs, changes: bool
    ) -> tuple[list[float], list[float]] | None:
        """Differences and their variances at some pairs of steps; None where a number is missing."""
        benchmark = self.study.benchmark_of(column)
        here, there = self._numbers[first, column], self._numbers[second, column]
        if benchmark.unit != "per cent" or any(a not in here or b not in there for a, b in pairs):
            return None
        if changes and not (0 in here and 0 in there):
            return None
        means, variances = [], []
        for a, b in pairs:
            ends = [(here[a], here.get(0, 0.0)), (there[b], there.get(0, 0.0))]
            differences = [last - base * changes for last, base in ends]
            means.append(differences[0] - differences[1])
            variances.append(math.fsum(self._variance(last, base, benchmark.num_items, changes) for last, base in ends))
        return means, variances

    def _variance(self, last: float, base: float, num_items: int, changes: bool) -> float:
        """Of a score, or of a change from base, whose errors may be correlated."""
        error, before = binomial_stderr(last, num_items), binomial_stderr(base, num_items)
        return error**2 + (before**2 - 2 * self._correlation * error * before if changes else 0.0)
