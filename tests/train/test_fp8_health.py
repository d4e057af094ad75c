"""Amax and scales as TransformerEngine's delayed scaling keeps them.

TransformerEngine runs on GPUs only: its modules are imitated here by their one attribute that is read.
"""

from types import SimpleNamespace

import pytest

pytest.importorskip("megatron.core")

import torch

from megatron_sft.train.fp8_health import Fp8Health, fp8_health

pytestmark = pytest.mark.trainer


def module(**states):
    found = torch.nn.Module()
    found.fp8_meta = states
    return found


def delayed(history, scale):
    return SimpleNamespace(amax_history=torch.tensor(history), scale=torch.tensor(scale))


def test_the_last_passes_count_and_older_ones_do_not():
    history = [[0.0, 0.0], [900.0, 1.0], [5.0, 2.0], [3.0, 7.0]]
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), module(scaling_fwd=delayed(history, [1.0, 2.0]), recipe=None))
    assert fp8_health([model], num_passes=2) == Fp8Health(amax=7.0, num_bad=0)
    assert fp8_health([model], num_passes=50) == Fp8Health(amax=900.0, num_bad=0)


def test_tensors_with_bad_values_or_scales_are_counted_once():
    forward = delayed([[0.0, 0.0, 0.0], [float("inf"), 4.0, 1.0]], [1.0, 0.0, 1.0])
    backward = delayed([[float("nan")], [2.0]], [float("inf")])
    model = module(scaling_fwd=forward, scaling_bwd=backward)
    assert fp8_health([model], num_passes=1) == Fp8Health(amax=4.0, num_bad=3)


def test_without_records_there_is_no_figure():
    current_scaling = SimpleNamespace(dtype="fp8")
    assert fp8_health([module(scaling_fwd=current_scaling), torch.nn.Linear(2, 2), module()], num_passes=1) is None
