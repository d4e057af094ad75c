"""Weights of trained tokens, against sums written out."""

import numpy as np
import pytest

from megatron_sft.errors import ConfigError
from megatron_sft.train.weighting import LossWeighting

TRAINED = np.array([1, 2, 3, 4, 5, 6, 7, 8], dtype=np.int64)


def test_every_token_counts_the_same():
    weights = LossWeighting().weights(TRAINED)
    assert weights.per_token.tolist() == [1 / 36] * 8
    assert weights.total == 1.0


def test_every_sample_counts_the_same():
    weights = LossWeighting(kind="sample-mean").weights(TRAINED)
    assert weights.per_token * TRAINED == pytest.approx([1 / 8] * 8)
    assert weights.total == 1.0


def test_the_reference_trainers_groups():
    """2 ranks with groups of 2: rank 0 has the samples 0 2 | 4 6, rank 1 has 1 3 | 5 7."""
    weights = LossWeighting(kind="reference", reference_ranks=2, reference_group_size=2).weights(TRAINED)
    # The mean over a group's tokens (1 + 3, 2 + 4, 5 + 7, 6 + 8 of them), averaged over the two ranks.
    groups = [4, 6, 4, 6, 12, 14, 12, 14]
    assert weights.per_token == pytest.approx([1 / (2 * tokens) for tokens in groups])
    assert weights.total == 2.0


@pytest.mark.parametrize(("ranks", "size"), [(8, 4), (1, 4), (4, 1), (8, 2), (32, 1)])
def test_the_reference_against_its_loops(ranks: int, size: int):
    generator = np.random.default_rng(0)
    num_samples = 64
    trained = generator.integers(1, 50, num_samples)
    loss_of_token = [generator.random(count) for count in trained]
    weights = LossWeighting(kind="reference", reference_ranks=ranks, reference_group_size=size).weights(trained)
    found = sum(weight * losses.sum() for weight, losses in zip(weights.per_token, loss_of_token, strict=True))

    sums = []
    for rank in range(ranks):
        samples = list(range(num_samples))[rank::ranks]
        sums.append(0.0)
        for start in range(0, len(samples), size):
            sums[-1] += np.concatenate([loss_of_token[i] for i in samples[start : start + size]]).mean()
    assert found == pytest.approx(np.mean(sums), rel=1e-12)
    assert weights.total == num_samples / (ranks * size)
    assert weights.total == pytest.approx((weights.per_token * trained).sum())


def test_a_batch_that_cannot_be_dealt_out_is_refused():
    weighting = LossWeighting(kind="reference")
    weighting.check(256)
    with pytest.raises(ConfigError, match=r"--global-batch-size 48 is not a multiple of .* = 32"):
        weighting.check(48)
    with pytest.raises(ConfigError, match="--reference-ranks 0"):
        LossWeighting(kind="reference", reference_ranks=0).check(256)
