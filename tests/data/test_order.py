"""The order of samples is a pure function of (seed, epoch, step)."""

import numpy as np
import pytest

from megatron_sft.data.order import SampleOrder
from megatron_sft.errors import ConfigError


def order(**changes):
    return SampleOrder(**{"num_samples": 10, "global_batch_size": 4, "shuffle": False, "seed": 7, **changes})


def test_file_order_repeats_every_epoch_and_drops_the_tail():
    batches = [order().batch(iteration).tolist() for iteration in range(4)]
    assert batches == [[0, 1, 2, 3], [4, 5, 6, 7], [0, 1, 2, 3], [4, 5, 6, 7]]
    assert order().steps_per_epoch == 2
    assert order().num_left_out == 2


def test_shuffled_epoch_visits_every_sample_once_and_differs_between_epochs():
    shuffled = order(global_batch_size=5, shuffle=True)
    first = np.concatenate([shuffled.batch(0), shuffled.batch(1)])
    second = np.concatenate([shuffled.batch(2), shuffled.batch(3)])
    assert sorted(first) == sorted(second) == list(range(10))
    assert first.tolist() != second.tolist()


def test_shuffle_depends_on_the_seed_alone():
    assert order(shuffle=True).batch(3).tolist() == order(shuffle=True).batch(3).tolist()
    assert order(shuffle=True).epoch_order(0).tolist() != order(shuffle=True, seed=8).epoch_order(0).tolist()


@pytest.mark.parametrize("size", [0, 11])
def test_a_batch_that_cannot_be_filled_is_refused_with_the_bounds(size):
    with pytest.raises(ConfigError, match=rf"--global-batch-size {size}.*choose 1 to 10"):
        order(global_batch_size=size)


def test_batches_are_parts_of_the_epochs_order_in_any_sequence():
    shuffled = order(shuffle=True)
    for iteration in (0, 3, 1, 7, 0):
        epoch, step = divmod(iteration, shuffled.steps_per_epoch)
        start = step * shuffled.global_batch_size
        expected = shuffled.epoch_order(epoch)[start : start + shuffled.global_batch_size]
        assert shuffled.batch(iteration).tolist() == expected.tolist()
    assert shuffled == order(shuffle=True)
