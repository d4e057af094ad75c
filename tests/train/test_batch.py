"""Batches: rows as tensors, weights over the global batch, counts."""

from pathlib import Path

import pytest

pytest.importorskip("megatron.core")

import torch

from megatron_sft.data.order import SampleOrder
from megatron_sft.data.packing import RowCost
from megatron_sft.data.shards import ShardReader
from megatron_sft.errors import DataError
from megatron_sft.train.batch import BatchBuilder, to_row
from tests.data.shard_folder import write_folder

pytestmark = pytest.mark.trainer


def test_two_samples_in_a_padded_row(tmp_path: Path):
    reader = ShardReader(write_folder(tmp_path / "shards", [[[5], [6, 7]], [[8], [9]]]))
    row = to_row(reader.fill_row([0, 1], 7, 0.25))
    assert row.tokens.tolist() == [[5, 6, 7, 8, 9, 0, 0]]
    assert row.labels.tolist() == [[6, 7, 0, 9, 0, 0, 0]]
    assert row.loss_weights.tolist() == [[0.25, 0.25, 0, 0.25, 0, 0, 0]]
    assert row.position_ids.tolist() == [[0, 1, 2, 0, 1, 0, 1]]
    assert row.cu_seqlens.tolist() == [0, 3, 5, 7]
    assert (row.max_seqlen, row.num_real_tokens) == (3, 5)
    types = (row.tokens.dtype, row.labels.dtype, row.loss_weights.dtype, row.position_ids.dtype, row.cu_seqlens.dtype)
    assert types == (torch.int64, torch.int64, torch.float32, torch.int64, torch.int32)
    assert row.packed_seq_params().max_seqlen_q == 3


def test_masked_tokens_carry_no_label_and_no_weight(tmp_path: Path):
    reader = ShardReader(write_folder(tmp_path / "shards", [[[1, 2, 3], [4]]]))
    row = to_row(reader.fill_row([0], None, 1.0))
    assert row.labels.tolist() == [[0, 0, 4, 0]]
    assert row.loss_weights.tolist() == [[0, 0, 1.0, 0]]


def test_an_empty_row_has_one_padding_document(tmp_path: Path):
    row = to_row(ShardReader(write_folder(tmp_path / "shards", [[[1], [2]]])).fill_row([], None, 1.0))
    assert row.cu_seqlens.tolist() == [0, 1]
    assert row.loss_weights.sum() == 0


def builder(folder: Path, lengths, dp_rank=0, dp_size=1, **changes):
    """A builder over samples of these lengths, the first half of each masked, all in one batch."""
    if not folder.exists():
        write_folder(folder, [[list(range(1, n // 2 + 1)), list(range(n // 2 + 1, n + 1))] for n in lengths])
    order = SampleOrder(num_samples=len(lengths), global_batch_size=len(lengths), shuffle=False, seed=0)
    values = {"seq_length": 8, "cost": RowCost(hidden_size=8), **changes}
    return BatchBuilder(reader=ShardReader(folder), order=order, dp_rank=dp_rank, dp_size=dp_size, **values)


def test_weights_sum_to_one_over_all_ranks_and_counts_are_global(tmp_path: Path):
    lengths = (8, 7, 5, 4, 3, 3)
    batches = [builder(tmp_path / "shards", lengths, rank, 2).build(0) for rank in range(2)]
    total = sum(float(row.loss_weights.sum()) for batch in batches for row in batch.rows)
    assert total == pytest.approx(1.0)
    assert {batch.trained_tokens for batch in batches} == {sum(n - n // 2 for n in lengths)}
    assert {(batch.num_tokens, batch.num_samples) for batch in batches} == {(30, 6)}
    assert sorted(i for batch in batches for row in batch.sample_indices for i in row) == list(range(6))
    assert len(batches[0].rows) == len(batches[1].rows)
    assert all(batch.samples.tolist() == list(range(6)) for batch in batches)
    # By hand: a sample of n tokens costs n + n^2 / (12 x 8).
    costs = [sum(lengths[i] + lengths[i] ** 2 / 96 for row in batch.sample_indices for i in row) for batch in batches]
    assert [batch.cost_imbalance for batch in batches] == pytest.approx([max(costs) / (sum(costs) / 2)] * 2)
    assert max(costs) > min(costs)
    for batch in batches:
        for row, indices in zip(batch.rows, batch.sample_indices, strict=True):
            assert row.tokens[0, : row.num_real_tokens].tolist() == [
                token for i in indices for token in range(1, lengths[i] + 1)
            ]


@pytest.mark.parametrize(("multiple", "length"), [(1, 3), (2, 4), (5, 5), (8, 8), (128, 8)])
def test_rows_are_as_short_as_the_multiple_allows(tmp_path: Path, multiple: int, length: int):
    batch = builder(tmp_path / "shards", [3], length_multiple=multiple).build(0)
    assert batch.rows[0].tokens.shape == (1, length)
    assert (batch.longest_row, batch.num_places) == (length, length)


@pytest.mark.parametrize("equal_lengths", [False, True])
def test_rows_have_lengths_of_their_own_or_the_longest_ones(tmp_path: Path, equal_lengths: bool):
    lengths = (8, 7, 5, 4, 3, 3)
    batches = [
        builder(tmp_path / "shards", lengths, rank, 2, equal_lengths=equal_lengths).build(0) for rank in range(2)
    ]
    rows = [row for batch in batches for row in batch.rows]
    assert sorted(row.num_real_tokens for row in rows) == [7, 7, 8, 8]
    assert sorted(row.tokens.shape[1] for row in rows) == ([8] * 4 if equal_lengths else [7, 7, 8, 8])
    assert {batch.num_places for batch in batches} == {32 if equal_lengths else 30}


def test_a_sample_longer_than_a_row_is_an_error(tmp_path: Path):
    with pytest.raises(DataError, match="sample 1 of the batch has 9 tokens, --seq-length is 8"):
        builder(tmp_path / "shards", [3, 9]).build(0)
