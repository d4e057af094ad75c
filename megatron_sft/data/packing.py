"""Which samples share a row, for one iteration and for a whole set of samples; the work is done in `rust/core`.

Everything here is a deterministic function of its arguments, so every rank computes the whole plan by itself and takes
its part: no communication, and a plan can be drawn again at any time.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from megatron_sft import _native


@dataclass(frozen=True, kw_only=True)
class RowCost:
    """Relative time of a row: a term per token and one for attention, quadratic in each sample's length."""

    hidden_size: int
    """Width of the model: a layer does about 24 h^2 operations per token and 2 h n^2 for causal attention over n."""

    def __call__(self, lengths: Sequence[int]) -> float:
        """Cost of a row that holds samples of these lengths, in token equivalents."""
        return sum(n + n * n / self.linear for n in lengths)

    @property
    def linear(self) -> int:
        """Weight of a token against a pair of tokens."""
        return 12 * self.hidden_size


@dataclass(frozen=True, kw_only=True)
class PackedRows:
    """Rows of samples in flat form."""

    order: NDArray[np.int64]
    """int64[num_samples] positions of all samples, those of a row next to each other and ascending."""
    row_starts: NDArray[np.int64]
    """int64[num_rows + 1] row k is `order[row_starts[k] : row_starts[k + 1]]`."""

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.row_starts) - 1

    def row(self, index: int) -> NDArray[np.int64]:
        """Positions of the samples of row `index`, counted from 0.

        Raises:
            IndexError: outside 0 to the number of rows - 1.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        return self.order[self.row_starts[index] : self.row_starts[index + 1]]


def pack_rows(lengths: ArrayLike, seq_length: int, *, seed: int | None = None) -> PackedRows:
    """Pack a whole set of samples into as few rows as best fit decreasing finds, or fewer.

    Args:
        lengths: tokens of each sample, integers from 1 to `seq_length`.
        seq_length: capacity of a row, tokens.
        seed: shuffle samples of equal length and the order of the rows; None for rows in the order of their first
            samples.

    Raises:
        DataError: for a length that no row can hold, or below 1; names the sample.
    """
    order, row_starts = _native.pack_rows(_as_lengths(lengths), seq_length, seed)
    return PackedRows(order=order, row_starts=row_starts)


@dataclass(frozen=True, kw_only=True)
class RowPlan:
    """The rows of one iteration."""

    ranks: list[list[list[int]]]
    """`ranks[r][k]` is row k of data-parallel rank r: positions of its samples in the batch, ascending. Every rank has
    the same number of rows, costliest first (in each of `rows_multiple` equal parts); a row may be empty. Every sample
    is in exactly one row."""
    row_lengths: list[list[int]]
    """`row_lengths[r][k]`: tokens of that row, its padding included."""

    @property
    def num_rows(self) -> int:
        """Rows of all ranks."""
        return sum(len(rows) for rows in self.ranks)

    @property
    def num_places(self) -> int:
        """Tokens of all rows, padding included: what is computed."""
        return sum(length for lengths in self.row_lengths for length in lengths)


def plan_rows(
    lengths: ArrayLike,
    seq_length: int,
    dp_size: int,
    cost: RowCost,
    *,
    rows_multiple: int = 1,
    length_multiple: int = 1,
    equal_lengths: bool = False,
) -> RowPlan:
    """Pack the samples of one iteration into rows and deal the rows to ranks.

    There are as few rows as `seq_length` allows, and the longest is as short as so many rows can be.

    Args:
        lengths: tokens of each sample of the iteration, integers from 1 to `seq_length`.
        seq_length: capacity of a row, tokens.
        dp_size: data-parallel ranks.
        cost: estimate of a row's time.
        rows_multiple: each rank gets a multiple of so many rows.
        length_multiple: each row is padded to a multiple of so many tokens, or to `seq_length`.
        equal_lengths: pad all rows to the length of the longest.

    Raises:
        DataError: for a length that no row can hold, or below 1; names the sample.
    """
    # With every part of a rank counted as a rank, all of them get the same number of rows.
    num_parts = dp_size * rows_multiple
    samples = _as_lengths(lengths)
    order, row_starts, longest = _native.plan_rows(samples, seq_length, length_multiple, num_parts, cost.linear)
    rows = [row.tolist() for row in np.split(order, row_starts[1:-1])] if len(row_starts) > 1 else []
    per_rank = len(rows) // dp_size
    ranks = [rows[rank * per_rank : (rank + 1) * per_rank] for rank in range(dp_size)]

    def padded(row: list[int]) -> int:
        # An empty row has a place too, as nothing can be computed on none.
        num_multiples = max(1, -(-int(samples[row].sum()) // length_multiple))
        return min(num_multiples * length_multiple, seq_length)

    lengths_of = [[longest if equal_lengths else padded(row) for row in rank] for rank in ranks]
    return RowPlan(ranks=ranks, row_lengths=lengths_of)


def _as_lengths(lengths: ArrayLike) -> NDArray[np.int32] | NDArray[np.int64]:
    array = np.ascontiguousarray(lengths)
    if array.dtype in (np.int32, np.int64):
        return array
    # Numbers that are no integers are a mistake of the caller: `casting` makes them a TypeError.
    return array.astype(np.int64, casting="safe") if array.size else np.empty(0, dtype=np.int64)
