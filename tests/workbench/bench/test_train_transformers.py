"""The micro-batches of the peers that use transformers."""

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("transformers")

import torch

from megatron_sft.data.shards import Sample
from megatron_sft.workbench.bench.train_job import Job
from megatron_sft.workbench.bench.train_transformers import attend_by_document, packed, padded

JOB = {
    "model": "", "data": "", "save": "", "batch_size": 3, "iterations": 1, "seq_length": 6, "padded_length": 7,
    "micro_batch_size": 2, "bf16": False, "gradient_checkpointing": False, "lr": 0.1, "device": "cpu",
}  # fmt: skip
SAMPLES = [
    Sample(np.array([5, 6, 7], dtype=np.int32), np.array([0, 1, 1], dtype=np.uint8)),
    Sample(np.array([8, 9], dtype=np.int32), np.array([0, 1], dtype=np.uint8)),
    Sample(np.array([1, 2, 3, 4], dtype=np.int32), np.array([0, 0, 1, 1], dtype=np.uint8)),
]


def test_samples_are_padded_to_the_longest_beside_them() -> None:
    first, second = (batch.inputs for batch in padded(Job(peer="padded", **JOB), SAMPLES))
    assert first["input_ids"].tolist() == [[5, 6, 7], [8, 9, 0]]
    assert first["labels"].tolist() == [[-100, 6, 7], [-100, 9, -100]]
    assert second["input_ids"].tolist() == [[1, 2, 3, 4]]


def test_samples_are_padded_to_one_length() -> None:
    batches = list(padded(Job(peer="padded-fixed", **JOB), SAMPLES))
    assert [batch.places for batch in batches] == [14, 7]
    assert batches[1].inputs["labels"].tolist() == [[-100, -100, 3, 4, -100, -100, -100]]


def test_rows_hold_whole_samples_with_positions_of_their_own() -> None:
    batches = [batch.inputs for batch in packed(Job(peer="packed", **JOB), SAMPLES)]
    assert [batch["input_ids"].tolist() for batch in batches] == [[[5, 6, 7]], [[8, 9, 1, 2, 3, 4]]]
    assert batches[1]["labels"].tolist() == [[-100, 9, -100, -100, 3, 4]]
    assert batches[1]["position_ids"].tolist() == [[0, 1, 0, 1, 2, 3]]
    assert batches[1]["cu_seq_lens_q"].tolist() == batches[1]["document_bounds"] == [0, 2, 6]
    assert batches[1]["max_length_q"] == 4


def test_documents_attend_to_themselves_alone() -> None:
    torch.manual_seed(0)
    query = torch.randn(1, 4, 6, 8)
    key, value = torch.randn(1, 2, 6, 8), torch.randn(1, 2, 6, 8)
    found, _ = attend_by_document(
        SimpleNamespace(), query, key, value, None, scaling=0.3, document_bounds=[0, 2, 6], dropout=0.0
    )
    document = torch.tensor([0, 0, 1, 1, 1, 1])
    allowed = (document[:, None] == document[None]) & torch.ones(6, 6, dtype=torch.bool).tril()
    scores = 0.3 * query @ key.repeat_interleave(2, dim=1).transpose(2, 3)
    weights = scores.masked_fill(~allowed, float("-inf")).softmax(dim=-1)
    expected = (weights @ value.repeat_interleave(2, dim=1)).transpose(1, 2)
    assert found.shape == (1, 6, 4, 8)
    assert torch.allclose(found, expected, atol=1e-6)
