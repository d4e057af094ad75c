"""Measured arms as trajectories, and differences of arms on the same items."""

import dataclasses
from collections.abc import Iterator

import numpy as np

from megatron_sft.studies.analysis.comparisons import Differences, compare_arms, compare_at
from megatron_sft.studies.analysis.curve import CONFIDENCE, Values, from_items
from megatron_sft.studies.analysis.extraction import GainParts, gain_parts
from megatron_sft.studies.analysis.lengths import lengths_of, order_of_turns, turning_point
from megatron_sft.studies.claims import GROUPS, Of
from megatron_sft.studies.finding.findings import Origin, Point, Trajectory
from megatron_sft.studies.finding.material import Material, Pairs
from megatron_sft.studies.finding.measurements import Measurement, Measurements, figure_of
from megatron_sft.studies.finding.trajectories import averages, better_is_higher, make_trajectory
from megatron_sft.studies.study import Study

MIN_ITEMS = 2
"""Which every step must share with base and with the last one."""


class Measured(Material):
    """What was measured; the same items are drawn in all arms of a benchmark."""

    origin: Origin = "measured"
    is_paired = True

    def __init__(self, study: Study, margin: float, seed: int, measurements: Measurements) -> None:
        super().__init__(study, margin)
        self.warnings: list[str] = []
        self._seeds = {column: seed + number for number, column in enumerate(study.columns())}
        self._found: dict[tuple[str, str], Measurement] = {}
        for arm in study.arms:
            own = []
            for column in study.columns():
                found = measurements.found.get((arm, column))
                if found is None:
                    continue
                if not has_common_items(found.scores):
                    self.warnings.append(f"arm {arm}, {column}: steps share less than {MIN_ITEMS} items; left out")
                    continue
                self._found[arm, column] = found
                own.append(self._trajectory(found))
            for one in [*own, *averages(study, own, margin=margin)]:
                self.trajectories[arm, one.benchmark] = one

    def steps(self, arm: str, column: str) -> tuple[int, ...]:
        """See `Material`."""
        found = self.trajectories.get((arm, column))
        return () if found is None else found.curve.steps

    def can_compare(self, first: str, second: str, column: str, pairs: Pairs, of: Of) -> bool:
        """See `Material`."""
        here, there = (self.trajectories.get((arm, column)) for arm in (first, second))
        if here is None or there is None or not pairs:
            return False
        if of == "length":
            return here.lengths is not None and there.lengths is not None
        if column in GROUPS:
            return here.members == there.members
        a, b = self._rows(first, second, column, pairs, of)
        return int((~np.isnan(a - b)).sum(axis=1).min()) >= MIN_ITEMS

    def difference(
        self, first: str, second: str, column: str, pairs: Pairs, of: Of, *, confidence: float = CONFIDENCE
    ) -> Differences | None:
        """See `Material`: item by item, groups and lengths draw by draw."""
        if not self.can_compare(first, second, column, pairs, of):
            return None
        here, there = self.trajectories[first, column], self.trajectories[second, column]
        if of == "length":
            assert here.lengths is not None and there.lengths is not None
            return compare_at(here.lengths.curve, there.lengths.curve, pairs, confidence=confidence)
        if column in GROUPS:
            changes = of == "change from base" and not self.shares_base(first, second)
            parts = [self.difference(first, second, member, pairs, of) for member in here.members]
            variance = np.sum([part.stderr**2 for part in parts if part is not None], axis=0)
            least = np.sqrt(variance) / len(parts)
            return compare_at(here.curve, there.curve, pairs, changes=changes, least=least, confidence=confidence)
        a, b = self._rows(first, second, column, pairs, of)
        span = span_of(self._found[first, column].scores, here.unit)
        return compare_arms([step for step, _ in pairs], a, b, self._seeds[column], span=span, confidence=confidence)

    def _rows(self, first: str, second: str, column: str, pairs: Pairs, of: Of) -> tuple[Values, Values]:
        """Scores, or changes from base, [pairs, items] of both arms."""
        here, there = self._found[first, column], self._found[second, column]
        a = here.scores[[here.steps.index(step) for step, _ in pairs]]
        b = there.scores[[there.steps.index(step) for _, step in pairs]]
        if of == "change from base" and not self.shares_base(first, second):
            return a - here.scores[:1], b - there.scores[:1]
        return a, b

    def _trajectory(self, found: Measurement) -> Trajectory:
        seed, unit = self._seeds[found.column], self.study.benchmark_of(found.column).unit
        curve = from_items(found.steps, found.scores, seed, span=span_of(found.scores, unit))
        bare = make_trajectory(
            self.study, found.arm, found.column, "measured", curve, points_of(found), margin=self.margin
        )
        is_share = not figure_of(self.study, found.column) and found.entries[0]["unit"] == "share"
        parts = None if not is_share or unit != "per cent" else parts_of(found, seed)
        if int(found.whole.sum()) < MIN_ITEMS:
            return dataclasses.replace(bare, parts=parts)
        lengths = lengths_of(found.steps, found.lengths, found.cut, seed)
        # An order needs two turns, and both of the same items: only then are the same ones drawn.
        turning = turning_point(lengths.curve)
        dips = bare.shape is not None and bare.shape.dip.step is not None
        has_turns = dips and turning.step > 0 and bool(found.whole.all())
        order = order_of_turns(lengths.curve, better_is_higher(bare)) if has_turns else None
        return dataclasses.replace(bare, parts=parts, lengths=lengths, turning=turning, order=order)


def has_common_items(scores: Values) -> bool:
    """Say whether every step of scores [S, I] has enough items in common with the first and the last one."""
    have = ~np.isnan(scores)
    return all(int((have & have[end]).sum(axis=1).min()) >= MIN_ITEMS for end in (0, -1))


def span_of(scores: Values, unit: str) -> float:
    """Return the largest difference that one item can show: 100, or with points what was seen."""
    return 100.0 if unit == "per cent" else float(np.nanmax(scores) - np.nanmin(scores)) or 1.0


def parts_of(found: Measurement, seed: int) -> GainParts | None:
    """Split the change from base into form and accuracy, in per cent, over the items that all steps have."""
    there = ~np.isnan(found.scores).any(axis=0)
    if int(there.sum()) < MIN_ITEMS:
        return None
    parts = gain_parts(found.steps, found.scores[:, there] / 100, found.extracted[:, there], seed)
    names = ("gain", "gain_interval", "form", "form_interval", "accuracy", "accuracy_interval")
    return dataclasses.replace(parts, **{name: 100 * getattr(parts, name) for name in names})


def points_of(found: Measurement) -> Iterator[Point]:
    """Yield what results.json says of each step beside the score."""
    for step, fields in zip(found.steps, found.entries, strict=True):
        yield Point(
            step=step,
            num_items=fields["num_items"],
            num_samples=fields["num_samples"],
            share_cut_off=fields.get("share_cut_off"),
            share_extracted=fields.get("share_extracted"),
            accuracy_among_extracted=fields.get("accuracy_among_extracted"),
            accuracy_among_finished=fields.get("accuracy_among_finished"),
            repetition_rate=fields.get("repetition_rate"),
            mean_length=fields.get("mean_length_tokens"),
        )
