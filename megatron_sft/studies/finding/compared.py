"""The comparisons of a study: arms set side by side, on every column and group."""

from collections.abc import Iterator
from typing import Literal

from megatron_sft.studies.claims import GROUPS
from megatron_sft.studies.finding.findings import ArmDifference
from megatron_sft.studies.finding.material import Material
from megatron_sft.studies.finding.trajectories import group_members
from megatron_sft.studies.study import ComparisonSpec


def arm_differences(material: Material) -> Iterator[ArmDifference]:
    """Yield the first arm of each comparison minus each other one, where both have figures."""
    for comparison in material.study.comparisons:
        for other in comparison.arms[1:]:
            for column in comparison.benchmarks or material.columns():
                found = _difference(material, comparison, other, column)
                if found is not None:
                    yield found


def _difference(material: Material, comparison: ComparisonSpec, other: str, column: str) -> ArmDifference | None:
    first = comparison.arms[0]
    pairs = material.equal_steps(first, other, column)
    if comparison.at == "last step":
        pairs = pairs[-1:]
    of: Literal["score", "change from base"] = "score" if material.shares_base(first, other) else "change from base"
    differences = material.difference(first, other, column, pairs, of) if pairs else None
    if differences is None:
        return None
    benchmark = material.study.benchmark_of(group_members(material.study, column)[0] if column in GROUPS else column)
    return ArmDifference(
        comparison=comparison.name,
        benchmark=column,
        first=first,
        second=other,
        what=of,
        paired=material.is_paired,
        origin=material.origin,
        unit=benchmark.unit,
        better=benchmark.better,
        differences=differences,
    )
