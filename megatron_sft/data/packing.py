"""Packing the samples of one iteration into rows and dealing the rows to data-parallel ranks.

Everything here is a deterministic function of the sample lengths, so every rank computes the whole plan by itself and
takes its part: no communication, and a plan can be drawn again at any time.
"""

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass

from megatron_sft.errors import DataError


@dataclass(frozen=True, kw_only=True)
class RowCost:
    """Relative time of a row: a term per token and one for attention, quadratic in each sample's length."""

    hidden_size: int
    """Width of the model: a layer does about 24 h^2 operations per token and 2 h n^2 for causal attention over n."""

    def __call__(self, lengths: Sequence[int]) -> float:
        """Cost of a row that holds samples of these lengths, in token equivalents."""
        return sum(n + n * n / (12 * self.hidden_size) for n in lengths)


def plan_rows(lengths: Sequence[int], seq_length: int, dp_size: int, cost: RowCost) -> list[list[list[int]]]:
    """Pack samples into rows and deal the rows to ranks.

    Args:
        lengths: tokens of each sample of the iteration; every one at most `seq_length`.
        seq_length: capacity of a row, tokens.
        dp_size: data-parallel ranks.
        cost: estimate of a row's time.

    Returns:
        `plan[rank][k]` is row k of that rank: positions in `lengths`, ascending. Every rank has the same number of
        rows; a row may be empty. Every sample is in exactly one row.

    Raises:
        DataError: for a sample longer than a row.
    """
    for position, length in enumerate(lengths):
        if length > seq_length:
            raise DataError(
                f"sample {position} of the batch has {length} tokens, --seq-length is {seq_length}: raise it, or build "
                "the shards with a smaller --max-length"
            )
    rows = best_fit(lengths, seq_length)
    num_rows = -(-len(rows) // dp_size) * dp_size
    if num_rows > len(rows):
        # Extra rows are needed anyway: spread the samples over all of them rather than leave some empty.
        rows = spread(lengths, seq_length, num_rows, cost) or rows + [[] for _ in range(num_rows - len(rows))]
    return deal([sorted(row) for row in rows], lengths, dp_size, cost)


def best_fit(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Best fit decreasing: each sample, longest first, into the fullest row that still has room for it."""
    rows: list[list[int]] = []
    open_rows: list[tuple[int, int]] = []  # (remaining room, row), ascending
    for position in _longest_first(lengths):
        place = bisect_left(open_rows, (lengths[position], -1))
        if place == len(open_rows):
            rows.append([])
            room, row = capacity, len(rows) - 1
        else:
            room, row = open_rows.pop(place)
        rows[row].append(position)
        insort(open_rows, (room - lengths[position], row))
    return rows


def spread(lengths: Sequence[int], capacity: int, num_rows: int, cost: RowCost) -> list[list[int]] | None:
    """Each sample, longest first, into the cheapest row with room; None when some sample finds no room."""
    rows: list[list[int]] = [[] for _ in range(num_rows)]
    rooms = [capacity] * num_rows
    costs = [0.0] * num_rows
    for position in _longest_first(lengths):
        candidates = [row for row in range(num_rows) if rooms[row] >= lengths[position]]
        if not candidates:
            return None
        row = min(candidates, key=lambda candidate: (costs[candidate], candidate))
        rows[row].append(position)
        rooms[row] -= lengths[position]
        costs[row] += cost([lengths[position]])
    return rows


def deal(rows: list[list[int]], lengths: Sequence[int], dp_size: int, cost: RowCost) -> list[list[list[int]]]:
    """Give each rank the same number of rows, with near equal total cost; costliest rows first on every rank."""
    row_costs = [cost([lengths[position] for position in row]) for row in rows]
    ranks: list[list[list[int]]] = [[] for _ in range(dp_size)]
    totals = [0.0] * dp_size
    for index in sorted(range(len(rows)), key=lambda row: (-row_costs[row], row)):
        rank = min(
            (rank for rank in range(dp_size) if len(ranks[rank]) < len(rows) // dp_size),
            key=lambda candidate: (totals[candidate], candidate),
        )
        ranks[rank].append(rows[index])
        totals[rank] += row_costs[index]
    return ranks


def _longest_first(lengths: Sequence[int]) -> list[int]:
    return sorted(range(len(lengths)), key=lambda position: (-lengths[position], position))
