"""The rows that the ranks of a layout get in one iteration: from real sample lengths, or from a stated distribution."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist

from megatron_sft.data.order import SampleOrder
from megatron_sft.data.packing import RowCost, plan_rows
from megatron_sft.data.shards import ShardReader
from megatron_sft.errors import ConfigError

NUM_BATCHES = 4
"""Iterations that are looked at where there are real lengths."""


@dataclass(frozen=True, kw_only=True)
class RowLoad:
    """One row, as far as its cost goes."""

    tokens: int
    """Places that are computed, padding included."""
    squares: int
    """Sum of the squared lengths of its documents; the padding at its end is one."""


@dataclass(frozen=True, kw_only=True)
class RankLoad:
    """What the costliest data-parallel rank does in an iteration."""

    rows: tuple[RowLoad, ...]
    """Its rows; all ranks have the same number of them."""


def rank_load(
    lengths: Sequence[int],
    *,
    seq_length: int,
    dp: int,
    hidden_size: int,
    rows_multiple: int = 1,
    length_multiple: int = 1,
    equal_lengths: bool = False,
) -> RankLoad:
    """Plan an iteration as the trainer does and return the costliest rank's part.

    Args:
        lengths: tokens of each sample of the iteration.
        seq_length: capacity of a row, tokens.
        dp: data-parallel ranks.
        hidden_size: of the model; it weighs attention against the rest when rows are dealt to ranks.
        rows_multiple: the interleaved pipeline takes rows in groups of so many.
        length_multiple: rows have a multiple of so many tokens.
        equal_lengths: all rows have the length of the longest, as the interleaved pipeline needs it.

    Raises:
        DataError: when a sample does not fit into a row.
    """
    cost = RowCost(hidden_size=hidden_size)
    plan = plan_rows(
        lengths,
        seq_length,
        dp,
        cost,
        rows_multiple=rows_multiple,
        length_multiple=length_multiple,
        equal_lengths=equal_lengths,
    )
    ranks = [
        tuple(_row([lengths[i] for i in row], length) for row, length in zip(rows, row_lengths, strict=True))
        for rows, row_lengths in zip(plan.ranks, plan.row_lengths, strict=True)
    ]
    slowest = max(ranks, key=lambda rows: sum(cost.linear * row.tokens + row.squares for row in rows))
    return RankLoad(rows=slowest)


def _row(lengths: list[int], row_length: int) -> RowLoad:
    padding = row_length - sum(lengths)
    return RowLoad(tokens=row_length, squares=sum(n * n for n in lengths) + padding * padding)


def batches_of_shards(folder: Path, global_batch_size: int, seq_length: int) -> list[list[int]]:
    """Sample lengths of `NUM_BATCHES` iterations spread evenly over an epoch in file order, or of all if fewer.

    Raises:
        DataError: for a folder that is no complete shard folder.
        ConfigError: when a sample is longer than a row, or there are fewer samples than an iteration takes.
    """
    reader = ShardReader(folder)
    longest = int(reader.lengths.max())
    if longest > seq_length:
        raise ConfigError(f"--seq-length {seq_length}: the longest sample of {folder} has {longest} tokens")
    order = SampleOrder(num_samples=len(reader), global_batch_size=global_batch_size, shuffle=False, seed=0)
    count = min(NUM_BATCHES, order.steps_per_epoch)
    steps = [index * order.steps_per_epoch // count for index in range(count)]
    return [reader.lengths[order.batch(step)].tolist() for step in steps]


def assumed_lengths(num_samples: int, mean: int, spread: float, longest: int) -> list[int]:
    """Quantiles of a log-normal distribution, cut at `longest`, whose mean after the cut is `mean` (to 1 %).

    Args:
        num_samples: how many lengths, at the middles of as many equal shares of probability.
        mean: tokens per sample, below `longest`.
        spread: standard deviation of the logarithm; 0 for equal lengths.
        longest: tokens of the longest sample.
    """
    assert 1 <= mean <= longest
    scores = [NormalDist().inv_cdf((index + 0.5) / num_samples) for index in range(num_samples)]

    def drawn(location: float) -> list[int]:
        return [max(1, min(longest, round(math.exp(location + spread * score)))) for score in scores]

    low, high = 0.0, math.log(longest) + spread * scores[-1] + 1
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if sum(drawn(middle)) < mean * num_samples else (low, middle)
    return drawn(high)
