"""`tools/bench study`: whether the analysis of a study finds what was planted in synthetic ones, and how often not.

For each setting and planted shape, many studies are drawn and judged. The table shows how often each verdict was given,
the share of studies whose verdict states something false, and how often each interval holds the truth.
"""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from megatron_sft import cli
from megatron_sft.errors import ConfigError
from megatron_sft.studies.analysis.curve import NUM_DRAWS, Curve, Values, from_items
from megatron_sft.studies.analysis.shape import Shape, Verdict, shape_of
from megatron_sft.workbench.bench.planted import SETTINGS, SHAPES, STEPS, Setting, draw_scores, true_changes

INTERVALS = ("changes", "depth", "dip step", "recovery", "gain", "scores")
"""See `_holds`."""


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """Judge synthetic studies of known shape; print verdicts, error rates and coverage as Markdown tables."""

    num_studies: int = 1_000
    """Studies for each setting and shape."""
    num_draws: int = NUM_DRAWS
    """Resamples of each study."""
    seed: int = 0
    """Of the studies and the resamples."""

    def __post_init__(self) -> None:
        """Check what cannot work."""
        if self.num_studies < 1 or self.num_draws < 100:
            raise ConfigError(
                f"--num-studies {self.num_studies} --num-draws {self.num_draws}: at least 1 and 100 are needed"
            )


@dataclass(frozen=True, kw_only=True)
class Tally:
    """What became of the studies of one setting and shape."""

    setting: Setting
    shape: str
    num_studies: int
    verdicts: Counter[Verdict]
    false: float
    """Share of the studies whose verdict states something that is not so."""
    coverage: dict[str, float]
    """Interval: share of the studies in which it holds the truth; `scores`: of studies and steps."""
    bias: float
    """Of the dip's depth as seen, mean."""
    corrected_bias: float
    """Of the corrected depth, mean."""
    detectable: float
    """Median over the studies."""
    ms: float
    """Milliseconds of processor time for each study, drawing it left out."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit status."""
    return cli.run(StudyConfig, show, prog="bench study", argv=argv)


def show(config: StudyConfig) -> None:
    """Measure and print the tables, row by row."""
    print(f"{config.num_studies} studies each, {config.num_draws} resamples, seed {config.seed}\n")
    names = [verdict.value for verdict in Verdict]
    print(f"| setting | planted | {' | '.join(names)} | false |\n|---|---|{'---|' * (len(names) + 1)}")
    tallies = []
    for setting in SETTINGS:
        for shape in SHAPES:
            tally = judge_many(
                setting, shape, num_studies=config.num_studies, num_draws=config.num_draws, seed=config.seed
            )
            tallies.append(tally)
            cells = [_per_cent(tally.verdicts[verdict] / tally.num_studies) for verdict in Verdict]
            print(f"| {setting.name} | {shape} | {' | '.join(cells)} | {_per_cent(tally.false)} |", flush=True)
    print(f"\n| setting | planted | {' | '.join(INTERVALS)} | depth's bias | corrected | detectable | ms |")
    print(f"|---|---|{'---|' * (len(INTERVALS) + 4)}")
    for tally in tallies:
        cells = [_per_cent(tally.coverage[name]) for name in INTERVALS]
        figures = [f"{value:.3f}" for value in (tally.bias, tally.corrected_bias, tally.detectable)]
        print(f"| {tally.setting.name} | {tally.shape} | {' | '.join([*cells, *figures])} | {tally.ms:.1f} |")


def judge_many(setting: Setting, shape: str, *, num_studies: int, num_draws: int = NUM_DRAWS, seed: int = 0) -> Tally:
    """Draw and judge studies of one setting and shape; the same seed gives the same studies."""
    changes = true_changes(setting, shape)
    depth = max(0.0, float(-changes.min()))
    verdicts: Counter[Verdict] = Counter()
    num_false, elapsed = 0, 0.0
    held, depths, detectable = [], [], []
    for number in range(num_studies):
        generator = np.random.default_rng([seed, sorted(SHAPES).index(shape), number])
        scores = draw_scores(setting, changes, generator)
        start = time.process_time()
        curve = from_items(STEPS, scores, int(generator.integers(2**32)), num_draws=num_draws)
        found = shape_of(curve, margin=setting.margin)
        elapsed += time.process_time() - start
        verdicts[found.verdict] += 1
        num_false += not is_true(found.verdict, changes, setting.margin)
        held.append(_holds(curve, found, changes, setting.base))
        depths.append((found.dip.depth - depth, found.dip.corrected_depth - depth))
        detectable.append(found.detectable)
    bias = np.mean(depths, axis=0)
    return Tally(
        setting=setting,
        shape=shape,
        num_studies=num_studies,
        verdicts=verdicts,
        false=num_false / num_studies,
        coverage=dict(zip(INTERVALS, map(float, np.mean(held, axis=0)), strict=True)),
        bias=float(bias[0]),
        corrected_bias=float(bias[1]),
        detectable=float(np.median(detectable)),
        ms=1e3 * elapsed / num_studies,
    )


def is_true(verdict: Verdict, changes: Values, margin: float) -> bool:
    """Say whether what a verdict states holds for the true changes from base [S - 1]."""
    last, dips = float(changes[-1]), bool((changes[:-1] < 0).any())
    within = float(changes.min()) > -margin and float(changes.max()) - last < margin
    statements = {
        Verdict.DIP_AND_RECOVERY: dips and last > 0,
        Verdict.DIP: dips,
        Verdict.MONOTONE_GAIN: last > 0 and within,
        Verdict.GAIN: last > 0,
        Verdict.DECLINE: last < 0,
        Verdict.FLAT: float(np.abs(changes).max()) < margin,
        Verdict.NOT_RESOLVED: True,
    }
    return statements[verdict]


def _holds(curve: Curve, found: Shape, changes: Values, base: float) -> list[float]:
    """Whether each interval of `INTERVALS` holds the truth.

    These are the whole simultaneous band of the contrasts, the dip's depth, the possible steps of the lowest score, the
    recovery step between earliest and latest, the final gain's own interval, the scores' own intervals (a share).
    """
    scores = base + np.concatenate([[0.0], changes])
    truth = scores[curve.contrasts.later] - scores[curve.contrasts.earlier]
    low, high = curve.contrasts.band()
    band_low, band_high = curve.band()
    depth = max(0.0, float(-changes.min()))
    lowest = {step for step, change in zip(curve.steps[1:], changes, strict=True) if change == changes.min()}
    return [
        float(np.all((low <= truth) & (truth <= high))),
        float(found.dip.interval[0] <= depth <= found.dip.interval[1]),
        float(lowest <= set(found.dip.possible_steps)),
        float(_recovery_holds(curve, found, changes)),
        float(found.final_interval[0] <= changes[-1] <= found.final_interval[1]),
        float(np.mean((band_low <= scores) & (scores <= band_high))),
    ]


def _recovery_holds(curve: Curve, found: Shape, changes: Values) -> bool:
    stays = np.logical_and.accumulate((changes >= 0)[::-1])[::-1]
    truth = curve.steps[1 + int(stays.argmax())] if stays.any() else float("inf")
    earliest = float("inf") if found.recovery.earliest is None else found.recovery.earliest
    latest = float("inf") if found.recovery.latest is None else found.recovery.latest
    return earliest <= truth <= latest


def _per_cent(share: float) -> str:
    return f"{100 * share:.1f}"
