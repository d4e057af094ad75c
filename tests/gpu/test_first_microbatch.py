"""FP8 copies of the weights are made anew in each iteration.

TransformerEngine keeps them from one micro-batch to the next and makes new ones where a flag says so, which
Megatron-Core's schedules set at the first micro-batch of an iteration. Were it not set, a model would be trained with
the FP8 weights of its first iteration, without a word.
"""

import pytest

pytest.importorskip("megatron.core")

from megatron.core.transformer.module import MegatronModule

from megatron_sft import pretrain_sft
from megatron_sft.model.device import process_group, select_device
from megatron_sft.train.options import TrainOptions
from tests.train.harness import BATCH, read_metrics

ITERATIONS = 8
TOLERANCE = 0.03
"""Of FP8 after some large updates."""


@pytest.fixture
def losses(world, gpu_model, tmp_path):
    """Runs the trainer in this process; returns the losses."""

    def run(name, **changes):
        values = {
            "data": world.shards,
            "init_from": gpu_model,
            "save": tmp_path / name,
            "global_batch_size": BATCH,
            "seq_length": 256,
            "train_iters": ITERATIONS,
            # So that the weights of the first iteration are soon far away.
            "lr": 1e-3,
            "bf16": True,
            "device": "cuda",
        }
        device = select_device("cuda")
        with process_group(device), device.activate():
            pretrain_sft.train(TrainOptions(**{**values, **changes}), device)
        records = read_metrics(tmp_path / name)
        assert records[0]["num_rows"] > 2, "there should be several micro-batches"
        return [record["loss"] for record in records]

    return run


@pytest.mark.parametrize("recipe", ["tensorwise", "delayed", "blockwise"])
def test_fp8_follows_updates(losses, recipe, monkeypatch):
    expected = losses("bf16")
    assert expected[-1] < (1 - 3 * TOLERANCE) * expected[0], "the weights should have changed much"
    fp8 = {"fp8_format": "hybrid", "fp8_recipe": recipe}
    assert losses("fp8", **fp8) == pytest.approx(expected, rel=TOLERANCE)
    # What this test finds where the flag is not set.
    monkeypatch.setattr(MegatronModule, "set_is_first_microbatch", lambda self: None)
    stale = losses("stale", **fp8)
    assert stale[0] == pytest.approx(expected[0], rel=TOLERANCE)
    assert stale[-1] != pytest.approx(expected[-1], rel=TOLERANCE)
