"""The same samples give the same loss in every layout, and the loss that transformers gives for them unpacked."""

import math

import pytest

pytest.importorskip("megatron.core")

from megatron_sft.data.shards import ShardReader
from tests.train.harness import BATCH, read_metrics

pytestmark = [pytest.mark.trainer, pytest.mark.slow]

LAYOUTS = {
    "dp1": (1, []),
    "dp2": (2, []),
    "tp2": (2, ["--tensor-model-parallel-size", "2"]),
    "pp2": (2, ["--pipeline-model-parallel-size", "2"]),
    "tp2 x pp2": (4, ["--tensor-model-parallel-size", "2", "--pipeline-model-parallel-size", "2"]),
    "dp1, other rows": (1, ["--seq-length", "512"]),
}


@pytest.fixture(scope="module")
def runs(world, tmp_path_factory):
    """Metrics of two iterations in each layout."""
    import subprocess

    from tests.train.harness import trainer_command, trainer_environment

    folder = tmp_path_factory.mktemp("layouts")
    metrics = {}
    for name, (num_processes, options) in LAYOUTS.items():
        command = trainer_command(world, folder / name, *options, num_processes=num_processes)
        result = subprocess.run(command, env=trainer_environment(), capture_output=True, text=True, timeout=600)
        assert result.returncode == 0, result.stderr[-5000:]
        metrics[name] = read_metrics(folder / name)
    return metrics


def test_first_loss_and_gradient_norm_are_the_same_in_every_layout(runs):
    reference = runs["dp1"][0]
    assert len({run[0]["num_rows"] for run in runs.values()}) > 1, "the packing should differ somewhere"
    for name, run in runs.items():
        assert run[0]["loss"] == pytest.approx(reference["loss"], rel=1e-5), name
        assert run[0]["grad_norm"] == pytest.approx(reference["grad_norm"], rel=1e-4), name
        assert run[0]["trained_tokens"] == reference["trained_tokens"], name


def test_the_update_is_the_same_in_every_layout(runs):
    assert abs(runs["dp1"][1]["loss"] - runs["dp1"][0]["loss"]) > 1e-2, "the first update should change the loss"
    for name, run in runs.items():
        assert run[1]["loss"] == pytest.approx(runs["dp1"][1]["loss"], rel=1e-4), name


def test_first_loss_is_that_of_transformers_on_the_samples_alone(runs, world):
    import torch
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(world.model, dtype=torch.float32)
    reader = ShardReader(world.shards)
    total, trained = 0.0, 0
    for index in range(BATCH):
        sample = reader.sample(index)
        tokens = torch.from_numpy(sample.tokens.astype("int64"))[None]
        with torch.no_grad():
            log_probs = model(tokens).logits[0, :-1].double().log_softmax(-1)
        nll = -log_probs.gather(1, tokens[0, 1:, None])[:, 0]
        mask = torch.from_numpy(sample.trained[1:].astype(bool))
        total += float(nll[mask].sum())
        trained += int(mask.sum())
    assert runs["dp1"][0]["trained_tokens"] == trained
    assert runs["dp1"][0]["loss"] == pytest.approx(total / trained, rel=1e-5)
    assert math.isfinite(total)
