"""Samples of `bench train`."""

from pathlib import Path

import numpy as np
import pytest

from megatron_sft.data.shards import ShardReader
from megatron_sft.errors import ConfigError
from megatron_sft.workbench.bench.train_inputs import Profile, batch_lengths, model_geometry, write_samples

PAPER = Profile(mean=6_500, longest=16_384, sigma=0.7)


def test_each_batch_has_the_profile_and_lengths_of_its_own() -> None:
    lengths = batch_lengths(PAPER, 16, 50, seed=0)
    assert lengths.shape == (50, 16)
    assert lengths.max() <= 16_384
    assert lengths.mean() == pytest.approx(6_500, rel=0.01)
    # 16 lengths drawn at random would have means that spread by 14 %.
    assert lengths.mean(axis=1).std() / 6_500 < 0.05
    assert len(np.unique(np.sort(lengths, axis=1), axis=0)) == 50
    assert any((np.diff(batch) < 0).any() for batch in lengths), "in no order of length"
    assert (lengths == batch_lengths(PAPER, 16, 50, seed=0)).all()


def test_samples_are_shards_with_a_prompt_that_is_not_trained(tmp_path: Path) -> None:
    write_samples(tmp_path / "data", np.array([2, 100, 10_000]), vocab_size=330, seed=0)
    reader = ShardReader(tmp_path / "data")
    assert reader.lengths.tolist() == [2, 100, 10_000]
    assert reader.trained_tokens.tolist() == [1, 98, 9_900]
    tokens = reader.sample(2).tokens
    assert 0 <= tokens.min() < 5
    assert 325 <= tokens.max() < 330


def test_models_by_name() -> None:
    assert model_geometry("tiny").num_layers == 2
    assert model_geometry("qwen3-1.7b").hidden_size == 2048
    with pytest.raises(ConfigError, match=r"smollm2-135m, tiny$"):
        model_geometry("qwen4")
