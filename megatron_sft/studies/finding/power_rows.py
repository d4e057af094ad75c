"""Which changes from base a study's benchmarks could have shown: as measured, and as assumed before anything is run."""

import statistics
from collections.abc import Iterator

from megatron_sft.studies.analysis.power import change_stderr, detectable_change
from megatron_sft.studies.claims import GROUPS
from megatron_sft.studies.finding.findings import PowerRow
from megatron_sft.studies.finding.material import Material
from megatron_sft.studies.finding.published import published_cells, usable
from megatron_sft.studies.finding.trajectories import group_members
from megatron_sft.studies.study import Study

CORRELATIONS = (0.0, 0.8)
"""Of an item's chances at two steps: from other items asked to nearly the same model."""
ITEM_SHARE = 0.6


def power_rows(material: Material) -> Iterator[PowerRow]:
    """Yield a row for each column or group with shapes: the median over the arms."""
    for column in material.columns():
        found = [one for (_, name), one in material.trajectories.items() if name == column and one.shape is not None]
        if not found:
            continue
        num_items, num_samples = _size(material, column)
        detectable = statistics.median(one.shape.detectable for one in found if one.shape is not None)
        arms = "1 arm" if len(found) == 1 else f"median of {len(found)} arms"
        basis = "standard errors measured" if material.is_paired else "independent errors of the published numbers"
        yield PowerRow(
            benchmark=column,
            num_items=num_items,
            num_samples=num_samples,
            detectable=float(detectable),
            basis=f"{basis}, {arms}",
        )


def _size(material: Material, column: str) -> tuple[int, int]:
    """Items, and answers to each one (0: several benchmarks): as measured, else as the study has them."""
    if column in GROUPS:
        return sum(_size(material, name)[0] for name in group_members(material.study, column)), 0
    points = [point for (_, name), one in material.trajectories.items() if name == column for point in one.points]
    if points:
        most = max(points, key=lambda point: point.num_items)
        return most.num_items, most.num_samples // most.num_items
    benchmark = material.study.benchmark_of(column)
    return benchmark.num_items, benchmark.num_samples


def assumed_rows(study: Study) -> Iterator[PowerRow]:
    """Yield what a benchmark in per cent could show of the base arm, at the published score of its model or 50 %."""
    num_steps = 1 + sum(step <= study.base.last_step for step in study.steps)
    arm = next((name for name in study.arms if study.conditions(name) == study.base), next(iter(study.arms)))
    for name, benchmark in study.benchmarks.items():
        if benchmark.unit != "per cent":
            continue
        known = usable(published_cells(study, arm, name)).get(0)
        score = 0.5 if known is None else min(max(known / 100, 0.01), 0.99)
        for correlation in CORRELATIONS:
            stderr = change_stderr(
                score=score,
                num_items=benchmark.num_items,
                num_samples=benchmark.num_samples,
                item_share=ITEM_SHARE,
                correlation=correlation,
            )
            yield PowerRow(
                benchmark=name,
                num_items=benchmark.num_items,
                num_samples=benchmark.num_samples,
                detectable=100 * detectable_change(stderr, num_steps),
                basis=f"assumed: score {100 * score:.0f} %, {num_steps} steps, correlation {correlation:g}",
            )
