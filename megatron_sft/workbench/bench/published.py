"""`tools/bench published`: what the analysis of a study says of the paper's own numbers.

They are means without items, so draws come from a normal distribution (`megatron_sft.studies.finding.published`). That
steps were measured on the same items is forgotten unless `--correlation` says otherwise.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from megatron_sft import cli
from megatron_sft.errors import ConfigError
from megatron_sft.studies.analysis.comparisons import compare_changes
from megatron_sft.studies.analysis.shape import Shape
from megatron_sft.studies.finding.material import Published
from megatron_sft.studies.study import Study, load

BY_STEP = ("4b-math-cot", "1.7b-math-cot")
"""Arms with a published trajectory."""
SIZES = ("14b-math-cot", "8b-math-cot", "4b-math-cot", "1.7b-math-cot")
NOT_SHOWN = ("general", "safety")
"""Groups whose average is not read: unlike benchmarks."""
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
    published = Published(study, config.margin, config.seed, correlation=config.correlation)
    for arm in BY_STEP:
        for one in published.of(arm):
            if one.shape is not None and one.benchmark not in NOT_SHOWN:
                yield row_of(arm, one.benchmark, one.shape)
    yield "\n| arm | out-of-domain change minus in-domain change, steps 10 to 640 | resolved |\n|---|---|---|"
    for arm in BY_STEP:
        outside, inside = (published.trajectories[arm, group].curve for group in ("out-of-domain", "in-domain"))
        found = compare_changes(outside, inside)
        cells = [f"{e:+.1f} ± {h - e:.1f}" for e, h in zip(found.estimate, found.upper, strict=True)]
        yield f"| {arm} | {', '.join(cells)} | {', '.join(map(str, (*found.above, *found.below))) or 'nowhere'} |"
    yield f"\n| gain at step {LAST_STEP} of | minus that of | difference, 95 % |\n|---|---|---|"
    for larger, smaller in itertools.pairwise(SIZES):
        yield f"| {larger} | {smaller} | {'; '.join(differences_of_gains(published, larger, smaller))} |"


def row_of(arm: str, name: str, shape: Shape) -> str:
    """One curve as a row."""
    dip, recovery = shape.dip, shape.recovery
    steps = "any" if len(dip.possible_steps) == len(shape.lower) else ", ".join(map(str, dip.possible_steps))
    depth = f"{dip.depth:.1f} ({dip.interval[0]:.1f} to {dip.interval[1]:.1f}), {dip.step or '-'}"
    back = f"{recovery.step or 'never'} ({recovery.earliest or 'never'} to {recovery.latest or 'not shown'})"
    gain = f"{shape.final_gain:+.1f} ({shape.final_interval[0]:+.1f} to {shape.final_interval[1]:+.1f})"
    return f"| {arm} | {name} | {shape.verdict.value} | {depth} | {steps} | {back} | {gain} | {shape.detectable:.1f} |"


def differences_of_gains(published: Published, larger: str, smaller: str) -> list[str]:
    """How much more the larger model gains at the last step, where both have it; each with an interval of its own."""
    texts = []
    for name in published.study.columns():
        pairs = published.last_steps(larger, smaller, name)
        found = published.difference(larger, smaller, name, pairs, "change from base")
        if found is not None and pairs == [(LAST_STEP, LAST_STEP)]:
            half = found.upper[0] - found.estimate[0]
            sign = "" if found.above or found.below else " (not resolved)"
            texts.append(f"{name} {found.estimate[0]:+.1f} ± {half:.1f}{sign}")
    return texts
