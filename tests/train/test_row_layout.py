"""Rows that are padded and shared out."""

import pytest

pytest.importorskip("megatron.core")

import numpy as np

from megatron_sft.data.shards import RowArrays
from megatron_sft.train.row_layout import pad_documents, share_of_rank

pytestmark = pytest.mark.trainer


def row() -> RowArrays:
    """Documents of 3 and 4 tokens."""
    return RowArrays(
        tokens=np.array([1, 2, 3, 4, 5, 6, 7]),
        labels=np.array([2, 3, 0, 5, 6, 7, 0]),
        loss_weights=np.array([0, 1, 0, 0, 1, 1, 0], dtype=np.float32),
        position_ids=np.array([0, 1, 2, 0, 1, 2, 3]),
        cu_seqlens=np.array([0, 3, 7], dtype=np.int32),
        max_seqlen=4,
        num_real_tokens=7,
    )


def test_documents_are_padded_at_their_ends():
    padded = pad_documents(row(), 4, 8)
    assert padded.tokens.tolist() == [1, 2, 3, 0, 4, 5, 6, 7]
    assert padded.labels.tolist() == [2, 3, 0, 0, 5, 6, 7, 0]
    assert padded.loss_weights.tolist() == [0, 1, 0, 0, 0, 1, 1, 0]
    assert padded.position_ids.tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
    assert padded.cu_seqlens.tolist() == [0, 4, 8]
    assert (padded.max_seqlen, padded.num_real_tokens) == (4, 7)
    assert padded.cu_seqlens.dtype == np.int32 and padded.position_ids.dtype == np.int64


def test_what_is_left_of_the_row_is_a_document():
    padded = pad_documents(row(), 4, 16)
    assert padded.cu_seqlens.tolist() == [0, 4, 8, 16]
    assert padded.position_ids.tolist() == [0, 1, 2, 3, 0, 1, 2, 3, *range(8)]
    assert padded.tokens.tolist()[8:] == [0] * 8
    assert padded.max_seqlen == 8


def test_each_rank_has_an_early_and_a_late_piece_of_each_document():
    padded = pad_documents(row(), 4, 8)
    first, second = (share_of_rank(padded, rank, 2) for rank in range(2))
    assert first.tokens.tolist() == [1, 0, 4, 7]
    assert second.tokens.tolist() == [2, 3, 5, 6]
    assert first.position_ids.tolist() == [0, 3, 0, 3]
    assert second.labels.tolist() == [3, 0, 6, 7]
    assert second.loss_weights.tolist() == [1, 0, 1, 1]
    assert first.cu_seqlens.tolist() == [0, 4, 8], "attention needs the boundaries of the whole row"


def test_one_rank_has_the_whole_row():
    assert share_of_rank(row(), 0, 1).tokens.tolist() == row().tokens.tolist()
