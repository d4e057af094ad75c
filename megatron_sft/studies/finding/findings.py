"""What a study found, as data: the report, the CSV files and TensorBoard are made of this and of nothing else.

Scores are in the benchmark's unit: per cent (0 to 100), or points. Shares are 0 to 1. Lengths are in tokens.
"""

from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

from megatron_sft.studies.analysis.comparisons import Asymmetry, Differences
from megatron_sft.studies.analysis.curve import CONFIDENCE, Curve
from megatron_sft.studies.analysis.extraction import GainParts
from megatron_sft.studies.analysis.few_items import student, widened
from megatron_sft.studies.analysis.lengths import Lengths, Order, TurningPoint
from megatron_sft.studies.analysis.shape import Shape
from megatron_sft.studies.study import Study

Origin = Literal["measured", "published"]
Outcome = Literal["holds", "fails", "open", "no data"]
ClaimVerdict = Literal["supported", "contradicted", "mixed", "not resolved", "not tested"]


@dataclass(frozen=True, kw_only=True)
class Point:
    """What is known of one arm on one benchmark at one step, beside the curve."""

    step: int
    num_items: int
    num_samples: int
    """Answers, all items together; 0 for a published number."""
    share_cut_off: float | None
    share_extracted: float | None
    accuracy_among_extracted: float | None
    accuracy_among_finished: float | None
    repetition_rate: float | None
    mean_length: float | None
    """Lengths that the budget ended count as the budget."""


@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """One arm on one benchmark, or on the average of a group of benchmarks."""

    arm: str
    benchmark: str
    """A column: a benchmark of the study, one with a figure behind a slash, or the name of a group."""
    group: str
    """in-domain, out-of-domain, general or safety."""
    is_average: bool
    """Whether `benchmark` is a group."""
    better: Literal["higher", "lower"]
    unit: str
    """per cent or points."""
    origin: Origin
    curve: Curve
    """As measured, whichever way is better."""
    shape: Shape | None
    """Of the curve turned so that higher is better; None where steps are too few."""
    points: tuple[Point, ...]
    """By step; empty for averages."""
    lengths: Lengths | None = None
    turning: TurningPoint | None = None
    order: Order | None = None
    """The greatest length against the lowest score."""
    parts: GainParts | None = None
    """`gain`, `form` and `accuracy` in the benchmark's unit; shares 0 to 1."""
    members: tuple[str, ...] = ()
    """Of an average: the columns that it is the mean of."""

    def change_at(self, row: int, confidence: float = CONFIDENCE) -> tuple[float, float, float]:
        """Change from base at the step of that row of the curve, with an interval of its own: Student's."""
        contrasts, num_items = self.curve.contrasts, self.curve.num_items
        z = NormalDist().inv_cdf((1 + confidence) / 2)
        # Standard errors of the draws lack n / (n - 1); those of items do not, nor those that are known.
        critical = widened(z, contrasts.num_items)
        if contrasts.num_items is None and num_items is not None:
            critical = student(z, num_items - 1)
        change, half = float(contrasts.estimate[row - 1]), critical * float(contrasts.stderr[row - 1])
        return change, change - half, change + half

    @property
    def final_change(self) -> tuple[float, float, float]:
        """Last score minus base, as measured, with its own interval; there is one where there is no shape, too."""
        return self.change_at(len(self.curve.steps) - 1)


@dataclass(frozen=True, kw_only=True)
class ArmDifference:
    """Two arms of a comparison on one benchmark."""

    comparison: str
    """Its name in the study."""
    benchmark: str
    first: str
    second: str
    """Arm that is taken away from the first one."""
    what: Literal["score", "change from base"]
    """Scores where both arms start from the same base model, else changes."""
    paired: bool
    """Whether the same items were compared one by one."""
    origin: Origin
    unit: str
    better: Literal["higher", "lower"]
    differences: Differences
    """First minus second, at the last common step or at all common ones."""


@dataclass(frozen=True, kw_only=True)
class ArmAsymmetry:
    """What an arm gained in reasoning beside what it lost in safety."""

    arm: str
    reasoning: str
    """Column or group."""
    harm: str
    """Column."""
    origin: Origin
    asymmetry: Asymmetry


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """One prediction of a claim, held against the figures."""

    outcome: Outcome
    text: str
    """A sentence with the figures and their interval."""
    origin: Origin
    statement: str = ""
    """What is predicted, as the study has it."""
    is_exception: bool = False
    """The claim itself says that it does not hold here: `holds` means that this is so. No part of the verdict."""
    confidence: float = 0.95
    """Of the interval: higher the more predictions the claim has, so that all hold together with 95 %."""


@dataclass(frozen=True, kw_only=True)
class ClaimFinding:
    """What speaks for and against a claim."""

    number: str
    text: str
    verdict: ClaimVerdict
    evidence: tuple[Evidence, ...]


@dataclass(frozen=True, kw_only=True)
class PowerRow:
    """Which change of one step from base a benchmark could have shown."""

    benchmark: str
    num_items: int
    num_samples: int
    """Answers to each item; 0 for the average of several benchmarks."""
    detectable: float
    """Change resolved in 80 % of studies, in the benchmark's unit."""
    basis: str
    """What it rests on: the measured standard errors, or an assumed score and correlation."""


@dataclass(frozen=True, kw_only=True)
class StageTime:
    """One stage of the run."""

    name: str
    kind: str
    """data, train, convert, evaluate or report."""
    seconds: float
    attempts: int


@dataclass(frozen=True, kw_only=True)
class Findings:
    """All of it."""

    study: Study
    trajectories: tuple[Trajectory, ...]
    """Measured and published ones, those of averages too; by arm in the study's order, then by benchmark."""
    differences: tuple[ArmDifference, ...]
    asymmetries: tuple[ArmAsymmetry, ...]
    claims: tuple[ClaimFinding, ...]
    power: tuple[PowerRow, ...]
    times: tuple[StageTime, ...]
    margin: float
    """Points of a hundred; what is smaller does not matter."""
    confidence: float
    provenance: dict[str, str]
    """What produced the figures: commit, engine, seed, ..."""
    warnings: tuple[str, ...]
    """What is missing, as sentences."""

    def trajectory(self, arm: str, benchmark: str, origin: Origin) -> Trajectory | None:
        """The curve of an arm on a column or group; None where there is none."""
        found = (t for t in self.trajectories if (t.arm, t.benchmark, t.origin) == (arm, benchmark, origin))
        return next(found, None)
