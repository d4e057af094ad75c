"""Rows: the shift, the weights, the boundaries."""

from dataclasses import dataclass

import numpy as np
import pytest

pytest.importorskip("megatron.core")

from megatron_sft.data.order import SampleOrder
from megatron_sft.data.packing import RowCost
from megatron_sft.errors import DataError
from megatron_sft.train.batch import BatchBuilder, make_row

pytestmark = pytest.mark.trainer


@dataclass
class Tokens:
    """What a row needs of a sample."""

    tokens: np.ndarray
    trained: np.ndarray


class Shards:
    """Samples in memory with the reader's interface: what is tested here is the builder."""

    def __init__(self, samples):
        self._samples = samples
        self.lengths = np.array([len(sample.tokens) for sample in samples])
        self.trained_tokens = np.array([int(sample.trained.sum()) for sample in samples])

    def sample(self, index):
        return self._samples[index]


def sample(tokens, num_masked):
    trained = np.arange(len(tokens)) >= num_masked
    return Tokens(np.array(tokens, dtype=np.int32), trained.astype(np.uint8))


def test_two_samples_in_a_padded_row():
    row = make_row([sample([5, 6, 7], 1), sample([8, 9], 1)], 0.25, 7)
    assert row.tokens.tolist() == [[5, 6, 7, 8, 9, 0, 0]]
    assert row.labels.tolist() == [[6, 7, 0, 9, 0, 0, 0]]
    assert row.loss_weights.tolist() == [[0.25, 0.25, 0, 0.25, 0, 0, 0]]
    assert row.position_ids.tolist() == [[0, 1, 2, 0, 1, 0, 1]]
    assert row.cu_seqlens.tolist() == [0, 3, 5, 7]
    assert (row.max_seqlen, row.num_real_tokens) == (3, 5)


def test_masked_tokens_carry_no_label_and_no_weight():
    row = make_row([sample([1, 2, 3, 4], 3)], 1.0, None)
    assert row.labels.tolist() == [[0, 0, 4, 0]]
    assert row.loss_weights.tolist() == [[0, 0, 1.0, 0]]


def test_an_empty_row_has_one_padding_document():
    row = make_row([], 1.0, None)
    assert row.cu_seqlens.tolist() == [0, 1]
    assert row.loss_weights.sum() == 0


def builder(samples, dp_rank=0, dp_size=1, **changes):
    order = SampleOrder(num_samples=len(samples), global_batch_size=len(samples), shuffle=False, seed=0)
    values = {"seq_length": 8, "cost": RowCost(hidden_size=8), "fixed_rows": False, **changes}
    return BatchBuilder(reader=Shards(samples), order=order, dp_rank=dp_rank, dp_size=dp_size, **values)


def test_weights_sum_to_one_over_all_ranks_and_counts_are_global():
    samples = [sample(range(1, n + 1), n // 2) for n in (8, 7, 5, 4, 3, 3)]
    batches = [builder(samples, rank, 2).build(0) for rank in range(2)]
    total = sum(float(row.loss_weights.sum()) for batch in batches for row in batch.rows)
    assert total == pytest.approx(1.0)
    assert {batch.trained_tokens for batch in batches} == {sum(int(s.trained.sum()) for s in samples)}
    assert {batch.num_tokens for batch in batches} == {30}
    assert sorted(i for batch in batches for row in batch.sample_indices for i in row) == list(range(6))
    assert len(batches[0].rows) == len(batches[1].rows)


def test_fixed_rows_have_the_capacity():
    batch = builder([sample([1, 2, 3], 1)], fixed_rows=True).build(0)
    assert batch.rows[0].tokens.shape == (1, 8)
    assert batch.fill == 3 / 8


def test_a_batch_without_trained_tokens_is_an_error():
    with pytest.raises(DataError, match=r"iteration 1: none of its samples \[0\]"):
        builder([sample([1, 2, 3], 3)]).build(0)
