"""What a study found: from the folder of a run, beside the published numbers; or from these alone."""

from collections.abc import Sequence
from pathlib import Path

from megatron_sft.studies.analysis.curve import CONFIDENCE, NUM_DRAWS
from megatron_sft.studies.finding.compared import arm_differences
from megatron_sft.studies.finding.findings import Findings, StageTime
from megatron_sft.studies.finding.judge_claims import claim_findings
from megatron_sft.studies.finding.material import Material, Published
from megatron_sft.studies.finding.measured import Measured
from megatron_sft.studies.finding.measurements import read_measurements
from megatron_sft.studies.finding.power_rows import assumed_rows, power_rows
from megatron_sft.studies.finding.times import stage_times
from megatron_sft.studies.finding.trajectories import asymmetries
from megatron_sft.studies.study import Study

MARGIN = 5.0
"""Points of a hundred."""


def find_published(study: Study, *, margin: float = MARGIN, seed: int = 0, correlation: float = 0.0) -> Findings:
    """Return what the reference numbers of a study say, as if they were its results.

    Args:
        study: with `reference`.
        margin: what is smaller does not matter, in points of a hundred.
        seed: of the draws.
        correlation: between the errors of two steps of an arm; 0 is what the numbers allow without their items.
    """
    published = Published(study, margin, seed, correlation=correlation)
    provenance = {
        "figures": "published numbers, as if measured",
        "correlation of steps": f"{correlation:g}",
        "seed": str(seed),
        "draws": str(NUM_DRAWS),
    }
    return _findings(study, [published], margin, (), provenance, ())


def find(study: Study, run_folder: Path, *, margin: float = MARGIN, seed: int = 0) -> Findings:
    """Return what a run found, beside the published numbers where the study has some.

    Arms, steps and benchmarks that are not there yet are warnings.

    Args:
        study: whose run it is.
        run_folder: OUTPUT of tools/run_study.
        margin: what is smaller does not matter, in points of a hundred.
        seed: of the resamples.

    Raises:
        DataError: for files of another form, and for answers that do not add up to their results.
    """
    measurements = read_measurements(study, run_folder)
    measured = Measured(study, margin, seed, measurements)
    times, unfinished = stage_times(run_folder)
    materials = [measured, *([Published(study, margin, seed)] if study.reference else [])]
    provenance = {"figures": "measured", **measurements.provenance, "seed": str(seed), "draws": str(NUM_DRAWS)}
    warnings = [*unfinished, *measurements.warnings, *measured.warnings]
    return _findings(study, materials, margin, times, provenance, warnings)


def _findings(
    study: Study,
    materials: Sequence[Material],
    margin: float,
    times: Sequence[StageTime],
    provenance: dict[str, str],
    warnings: Sequence[str],
) -> Findings:
    arms = [(arm, material) for arm in study.arms for material in materials]
    return Findings(
        study=study,
        trajectories=tuple(one for arm, material in arms for one in material.of(arm)),
        differences=tuple(one for material in materials for one in arm_differences(material)),
        asymmetries=tuple(one for arm, material in arms for one in asymmetries(material.of(arm))),
        claims=claim_findings(materials),
        power=(*(row for material in materials for row in power_rows(material)), *assumed_rows(study)),
        times=tuple(times),
        margin=margin,
        confidence=CONFIDENCE,
        provenance=provenance,
        warnings=tuple(warnings),
    )
