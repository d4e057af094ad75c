"""`tools/bench published`: what the analysis of a study says of the paper's own numbers.

They are means without items, so draws come from a normal distribution (`megatron_sft.studies.published`). That steps
were measured on the same items is forgotten unless `--correlation` says otherwise.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from megatron_sft import cli
from megatron_sft.errors import ConfigError
from megatron_sft.studies.analysis.comparisons import compare_changes
from megatron_sft.studies.analysis.curve import Curve, average, from_draws
from megatron_sft.studies.analysis.shape import Shape, shape_of
from megatron_sft.studies.published import published_curve, usable
from megatron_sft.studies.study import Study, load

BY_STEP = ("4b-math-cot", "1.7b-math-cot")
"""Arms with a published trajectory, in tables of the same name."""
LAST_STEP_TABLE = {"14b-math-cot": "table2", "8b-math-cot": "table2"}
SIZES = ("14b-math-cot", "8b-math-cot", "4b-math-cot", "1.7b-math-cot")
GROUPS = ("in-domain", "out-of-domain")
LAST_STEP = 640


@dataclass(frozen=True, kw_only=True)
class PublishedConfig:
    """Judge the published trajectories of 4B and 1.7B and the gains of four sizes; print Markdown tables."""

    correlation: float = 0.0
    """Of the errors of two steps on the same items: 0 is what the numbers alone allow, 0.5 is usual of paired items."""
    margin: float = 5.0
    """Points; what is smaller does not matter."""
    seed: int = 0
    """Of the draws."""

    def __post_init__(self) -> None:
        """Check what cannot work."""
        if not 0 <= self.correlation < 1 or self.margin <= 0:
            raise ConfigError(
                f"--correlation {self.correlation} --margin {self.margin}: from 0 to below 1, and above 0, are needed"
            )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit status."""
    return cli.run(PublishedConfig, show, prog="bench published", argv=argv)


def show(config: PublishedConfig) -> None:
    """Print the tables."""
    print("\n".join(lines(load("paper"), config)))


def lines(study: Study, config: PublishedConfig) -> Iterator[str]:
    """Yield trajectories, groups and sizes."""
    yield f"correlation {config.correlation:g}, margin {config.margin:g}\n"
    yield "| arm | scores | verdict | dip: depth, step | possible steps | at or above base from | gain | detectable |"
    yield "|---|---|---|---|---|---|---|---|"
    for arm in BY_STEP:
        curves = curves_of(study, arm, config)
        for name, curve in [*curves.items(), *group_curves(study, curves).items()]:
            yield row_of(arm, name, shape_of(curve, margin=config.margin))
    yield "\n| arm | out-of-domain change minus in-domain change, steps 10 to 640 | resolved |\n|---|---|---|"
    for arm in BY_STEP:
        groups = group_curves(study, curves_of(study, arm, config))
        found = compare_changes(groups["out-of-domain"], groups["in-domain"])
        cells = [f"{e:+.1f} ± {h - e:.1f}" for e, h in zip(found.estimate, found.upper, strict=True)]
        yield f"| {arm} | {', '.join(cells)} | {', '.join(map(str, (*found.above, *found.below))) or 'nowhere'} |"
    yield f"\n| gain at step {LAST_STEP} of | minus that of | difference, 95 % |\n|---|---|---|"
    ends = {arm: curves_of(study, arm, config) for arm in SIZES}
    for larger, smaller in itertools.pairwise(SIZES):
        yield f"| {larger} | {smaller} | {'; '.join(differences_of_gains(ends[larger], ends[smaller]))} |"


def curves_of(study: Study, arm: str, config: PublishedConfig) -> dict[str, Curve]:
    """The published curves of an arm by column; columns without a base number that can be trusted are left out."""
    table = study.reference[LAST_STEP_TABLE.get(arm, arm)]
    curves = {}
    for number, column in enumerate(table.column_names):
        cells = usable(table.trajectory(arm, column, model=study.conditions(arm).model))
        if 0 in cells and len(cells) > 1 and study.benchmarks[column.split("/")[0]].unit == "per cent":
            # Arms and columns need different seeds: equal draws would look like common items.
            seed = config.seed + 1000 * (1 + list(study.arms).index(arm)) + number
            curves[column] = published_curve(study, table, arm, column, seed, correlation=config.correlation)
    return curves


def group_curves(study: Study, curves: dict[str, Curve]) -> dict[str, Curve]:
    """The mean over the benchmarks of each group."""
    return {
        group: average([curve for name, curve in curves.items() if study.benchmarks[name.split("/")[0]].group == group])
        for group in GROUPS
    }


def row_of(arm: str, name: str, shape: Shape) -> str:
    """One curve as a row."""
    dip, recovery = shape.dip, shape.recovery
    steps = "any" if len(dip.possible_steps) == len(shape.lower) else ", ".join(map(str, dip.possible_steps))
    depth = f"{dip.depth:.1f} ({dip.interval[0]:.1f} to {dip.interval[1]:.1f}), {dip.step or '-'}"
    back = f"{recovery.step or 'never'} ({recovery.earliest or 'never'} to {recovery.latest or 'not shown'})"
    gain = f"{shape.final_gain:+.1f} ({shape.final_interval[0]:+.1f} to {shape.final_interval[1]:+.1f})"
    return f"| {arm} | {name} | {shape.verdict.value} | {depth} | {steps} | {back} | {gain} | {shape.detectable:.1f} |"


def differences_of_gains(larger: dict[str, Curve], smaller: dict[str, Curve]) -> list[str]:
    """How much more the larger model gains at the last step, where both have it; each with an interval of its own."""
    texts = []
    for name in larger:
        if name in smaller and LAST_STEP in larger[name].steps and LAST_STEP in smaller[name].steps:
            found = compare_changes(at_end(larger[name]), at_end(smaller[name]))
            half = found.upper[0] - found.estimate[0]
            sign = "" if found.above or found.below else " (not resolved)"
            texts.append(f"{name} {found.estimate[0]:+.1f} ± {half:.1f}{sign}")
    return texts


def at_end(curve: Curve) -> Curve:
    """Base and the last step alone, so that no other step costs certainty."""
    rows = [0, curve.steps.index(LAST_STEP)]
    return from_draws((0, LAST_STEP), curve.means[rows], curve.draws[:, rows], num_items=curve.num_items)
