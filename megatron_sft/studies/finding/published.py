"""Published numbers as curves: of means alone, with the standard errors that so many items must at least have had."""

import math

import numpy as np

from megatron_sft.errors import ConfigError
from megatron_sft.studies.analysis.curve import Curve, from_means
from megatron_sft.studies.reference import Cell
from megatron_sft.studies.study import Study


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


def published_cells(study: Study, arm: str, column: str) -> dict[int, Cell]:
    """Return what is published of an arm in one column, by step, from all tables; step 0 is its base model's.

    Of a number that several tables give, one without doubt counts.

    Raises:
        ConfigError: where two tables have different numbers without doubt.
    """
    found: dict[int, Cell] = {}
    for table in study.reference.values():
        if column not in table.column_names:
            continue
        for step, cell in table.trajectory(arm, column, model=study.conditions(arm).model).items():
            before = found.get(step)
            if before is None or (not usable({step: before}) and usable({step: cell})):
                found[step] = cell
            elif usable({step: before}) and usable({step: cell}) and cell.value != before.value:
                raise ConfigError(
                    f"study {study.name}: {table.title}: {arm}: {column}: step {step}: {cell.value:g}, another table "
                    f"has {before.value:g}: mark the one in doubt with a star, or both"
                )
    return dict(sorted(found.items()))


def published_curve(study: Study, arm: str, column: str, seed: int, *, correlation: float = 0.0) -> Curve:
    """Return a published trajectory in per cent with draws from a normal distribution.

    Args:
        study: has the tables, and says how many items the benchmark has.
        arm: one of the study's.
        column: a benchmark, or a further figure of one.
        seed: of the draws.
        correlation: between the errors of two steps; see `from_means`.

    Raises:
        ConfigError: for a benchmark in points, whose spread nobody published, or an arm without its base.
    """
    benchmark = study.benchmark_of(column)
    if benchmark.unit != "per cent":
        raise ConfigError(f"{column}: {benchmark.unit}: only scores in per cent have a known standard error")
    scores = usable(published_cells(study, arm, column))
    if 0 not in scores or len(scores) < 2:
        raise ConfigError(f"{arm}: {column}: a curve needs step 0 and a further one, found {list(scores)}")
    steps = sorted(scores)
    means = np.array([scores[step] for step in steps])
    stderr = np.array([binomial_stderr(float(mean), benchmark.num_items) for mean in means])
    return from_means(steps, means, stderr, seed, correlation=correlation)


def published_curves(study: Study, arm: str, seed: int, *, correlation: float = 0.0) -> dict[str, Curve]:
    """Return an arm's published curves by column; columns without a base number that can be trusted are left out."""
    curves = {}
    for number, column in enumerate(study.columns()):
        scores = usable(published_cells(study, arm, column))
        if 0 in scores and len(scores) > 1 and study.benchmark_of(column).unit == "per cent":
            # Arms and columns need different seeds: equal draws would look like common items.
            own = seed + 1000 * (1 + list(study.arms).index(arm)) + number
            curves[column] = published_curve(study, arm, column, own, correlation=correlation)
    return curves
