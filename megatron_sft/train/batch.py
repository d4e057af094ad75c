"""From samples to the tensors of a micro-batch: one packed row.

Legend: T tokens of the row (real ones and padding), P of them on this rank (T / context-parallel size), N documents of
it. The shift between inputs and labels happens in
`ShardReader.fill_row` and nowhere else: place t of a sample is asked for token t + 1 of the same sample.
"""

import math
from dataclasses import dataclass, field, replace

import megatron_sft.model.lean_megatron  # noqa: F401

import numpy as np
import torch
from megatron.core.packed_seq_params import PackedSeqParams
from numpy.typing import NDArray
from torch import Tensor

from megatron_sft.data.order import SampleOrder
from megatron_sft.data.packing import RowCost, RowPlan, plan_rows
from megatron_sft.data.shards import RowArrays, ShardReader
from megatron_sft.model.layout import ParallelLayout
from megatron_sft.train.row_layout import pad_documents, share_of_rank
from megatron_sft.train.weighting import LossWeighting


@dataclass(frozen=True, kw_only=True)
class Row:
    """One micro-batch. Documents never see each other; padding is a document of its own without trained tokens."""

    tokens: Tensor
    """int64[1, P] input ids."""
    labels: Tensor
    """int64[1, P] the id that follows in the same sample; 0 where there is none (its weight is 0)."""
    loss_weights: Tensor
    """float32[1, P] weight of each place in the loss; see `megatron_sft.train.weighting`."""
    position_ids: Tensor
    """int64[1, P] restart at 0 in each document."""
    cu_seqlens: Tensor
    """int32[N + 1] document boundaries, from 0 to T."""
    max_seqlen: int
    """Tokens of the longest document."""
    num_real_tokens: int
    """T without padding."""

    def to(self, device: torch.device) -> "Row":
        """The same row with its tensors on `device`."""
        tensors = ("tokens", "labels", "loss_weights", "position_ids", "cu_seqlens")
        return replace(self, **{name: getattr(self, name).to(device, non_blocking=True) for name in tensors})

    def packed_seq_params(self) -> PackedSeqParams:
        """The same boundaries for queries and keys, as TransformerEngine and `PackedAttention` take them."""
        return PackedSeqParams(
            qkv_format="thd",
            cu_seqlens_q=self.cu_seqlens,
            cu_seqlens_kv=self.cu_seqlens,
            max_seqlen_q=self.max_seqlen,
            max_seqlen_kv=self.max_seqlen,
        )


@dataclass(frozen=True, kw_only=True)
class StepBatch:
    """The rows of one rank for one iteration, with counts over the whole global batch."""

    rows: list[Row]
    """Micro-batches of this data-parallel rank, the same number on every rank."""
    sample_indices: list[list[int]]
    """Per row, the samples that it holds (indices into the shards)."""
    num_samples: int
    """Samples of the global batch."""
    num_tokens: int
    """Real tokens of the global batch."""
    trained_tokens: int
    """Trained tokens of the global batch."""
    loss_weight: float
    """Sum of all weights of the global batch: the denominator of the loss that is reported."""
    longest_row: int
    """Places of the longest row of this data-parallel rank."""
    num_places: int
    """Tokens of all rows of all ranks, padding included: what is computed."""
    samples: NDArray[np.int64]
    """int64[num_samples] samples of the global batch, in its order."""
    cost_imbalance: float
    """Largest cost of a data-parallel rank's rows / mean over these ranks, by `RowCost`."""

    def to(self, device: torch.device) -> "StepBatch":
        """The same batch with its rows on `device`."""
        return replace(self, rows=[row.to(device) for row in self.rows])


@dataclass(frozen=True, kw_only=True)
class BatchBuilder:
    """Builds any iteration's rows for one data-parallel rank."""

    reader: ShardReader
    """The shards."""
    order: SampleOrder
    """Which samples an iteration trains."""
    seq_length: int
    """Capacity of a row, tokens."""
    dp_rank: int
    """This rank among those that share the data."""
    dp_size: int
    """Data-parallel ranks."""
    cost: RowCost
    """Estimate of a row's time, for balance."""
    length_multiple: int = 1
    """Rows have a multiple of so many tokens, or `seq_length`."""
    equal_lengths: bool = False
    """All rows of an iteration have the length of the longest."""
    weighting: LossWeighting = field(default_factory=LossWeighting)
    """What each trained token counts."""
    layout: ParallelLayout = field(default_factory=ParallelLayout)
    """How rows are shared out."""
    cp_rank: int = 0
    """This rank among those that share each row's tokens."""

    def build(self, iteration: int) -> StepBatch:
        """The batch of an iteration counted from 0.

        Raises:
            DataError: when a sample is longer than a row.
        """
        indices = self.order.batch(iteration)
        lengths = self.reader.lengths[indices]
        plan = self.plan(lengths)
        rows, row_lengths = plan.ranks[self.dp_rank], plan.row_lengths[self.dp_rank]
        trained_tokens = self.reader.trained_tokens[indices]
        weights = self.weighting.weights(trained_tokens)
        num_tokens = int(lengths.sum())
        return StepBatch(
            rows=[
                self._row(indices[row], weights.per_token[row], length)
                for row, length in zip(rows, row_lengths, strict=True)
            ],
            sample_indices=[indices[row].tolist() for row in rows],
            num_samples=len(indices),
            num_tokens=num_tokens,
            trained_tokens=int(trained_tokens.sum()),
            loss_weight=weights.total,
            longest_row=max(row_lengths),
            num_places=plan.num_places,
            samples=indices,
            cost_imbalance=self._cost_imbalance(lengths, plan.ranks),
        )

    def plan(self, lengths: NDArray[np.int64]) -> RowPlan:
        """Which samples of a batch share a row; `lengths` has their tokens, int64[num_samples]."""
        each = self.layout.document_multiple
        return plan_rows(
            -(-lengths // each) * each,
            self.seq_length,
            self.dp_size,
            self.cost,
            rows_multiple=self.layout.rows_per_rank_multiple,
            length_multiple=math.lcm(self.length_multiple, self.layout.row_multiple),
            equal_lengths=self.equal_lengths,
        )

    def _cost_imbalance(self, lengths: NDArray[np.int64], ranks: list[list[list[int]]]) -> float:
        costs = lengths + lengths * lengths / self.cost.linear
        totals = [sum(float(costs[row].sum()) for row in rows) for rows in ranks]
        return max(totals) * len(totals) / sum(totals)

    def _row(self, indices: NDArray[np.int64], weights: NDArray[np.float64], length: int) -> Row:
        if self.layout.row_multiple == 1:
            return to_row(self.reader.fill_row(indices, length, weights.astype(np.float32)))
        row = self.reader.fill_row(indices, None, weights.astype(np.float32))
        row = pad_documents(row, self.layout.document_multiple, length)
        return to_row(share_of_rank(row, self.cp_rank, self.layout.context_parallel_size))


def to_row(arrays: RowArrays) -> Row:
    """The arrays of a row as tensors over the same memory, with a batch dimension of 1."""
    return Row(
        tokens=torch.from_numpy(arrays.tokens)[None],
        labels=torch.from_numpy(arrays.labels)[None],
        loss_weights=torch.from_numpy(arrays.loss_weights)[None],
        position_ids=torch.from_numpy(arrays.position_ids)[None],
        cu_seqlens=torch.from_numpy(arrays.cu_seqlens),
        max_seqlen=arrays.max_seqlen,
        num_real_tokens=arrays.num_real_tokens,
    )
