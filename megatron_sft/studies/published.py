"""Published numbers as curves: of means alone, with the standard errors that so many items must at least have had."""

import math

import numpy as np

from megatron_sft.errors import ConfigError
from megatron_sft.studies.analysis.curve import Curve, from_means
from megatron_sft.studies.reference import Cell, ReferenceTable
from megatron_sft.studies.study import BenchmarkSpec, Study


def binomial_stderr(per_cent: float, num_items: int) -> float:
    """Return the standard error of a score in per cent over items that were answered once.

    Several answers to an item count as one, as the items' difference in difficulty makes up most of the variance. A
    score of 0 or 100 has the error of one item and a half, not none: sqrt(p (1 - p) / n) at p = (x + 1) / (n + 2).
    """
    share = (per_cent / 100 * num_items + 1) / (num_items + 2)
    return 100 * math.sqrt(share * (1 - share) / num_items)


def usable(cells: dict[int, Cell]) -> dict[int, float]:
    """Return step -> number without the cells that have none and those in doubt."""
    return {step: cell.value for step, cell in cells.items() if cell.value is not None and not cell.mark}


def published_curve(
    study: Study, table: ReferenceTable, arm: str, column: str, seed: int, *, correlation: float = 0.0
) -> Curve:
    """Return a published trajectory in per cent with draws from a normal distribution.

    Args:
        study: says how many items the benchmark has.
        table: of the study's `reference`, with rows of the arm, and of it or its base model at step 0.
        arm: one of the study's.
        column: a benchmark.
        seed: of the draws.
        correlation: between the errors of two steps; see `from_means`.

    Raises:
        ConfigError: for a benchmark in points, whose spread nobody published, or a table without the arm's base.
    """
    benchmark = benchmark_of(study, column)
    if benchmark.unit != "per cent":
        raise ConfigError(f"{column}: {benchmark.unit}: only scores in per cent have a known standard error")
    scores = usable(table.trajectory(arm, column, model=study.conditions(arm).model))
    if 0 not in scores or len(scores) < 2:
        raise ConfigError(
            f"{table.title}: {arm}: {column}: a curve needs step 0 and a further one, found {list(scores)}"
        )
    steps = sorted(scores)
    means = np.array([scores[step] for step in steps])
    stderr = np.array([binomial_stderr(float(mean), benchmark.num_items) for mean in means])
    return from_means(steps, means, stderr, seed, correlation=correlation)


def benchmark_of(study: Study, column: str) -> BenchmarkSpec:
    """Return the benchmark of a column; one that has several figures has their names behind a slash."""
    return study.benchmarks[column.split("/")[0]]
