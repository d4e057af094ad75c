"""What the program does with bad input and with a loss that is not a number."""

import json

import pytest

pytest.importorskip("megatron.core")

from megatron_sft.model import checkpoint_dir
from tests.train.harness import read_metrics

pytestmark = [pytest.mark.trainer, pytest.mark.slow]


def test_a_nan_stops_the_run_before_the_update(world, train, tmp_path):
    import torch
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(world.model, dtype=torch.float32)
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[0, 0] = float("nan")
    poisoned = tmp_path / "poisoned"
    model.save_pretrained(poisoned)
    for path in world.tokenizer.iterdir():
        (poisoned / path.name).write_bytes(path.read_bytes())
    result = train(tmp_path / "run", "--init-from", str(poisoned), check=False)
    assert result.returncode != 0
    assert "iteration 1, rank 0: loss nan" in result.stderr
    assert "Stopped before the update" in result.stderr
    assert checkpoint_dir.list_complete(tmp_path / "run") == []
    assert read_metrics(tmp_path / "run") == []


def test_bf16_trains_with_fp32_main_weights(world, train, tmp_path):
    result = train(tmp_path, "--train-iters", "4", flags=("--bf16",))
    assert "bf16 weights, fp32 main weights" in result.stdout
    losses = [record["loss"] for record in read_metrics(tmp_path)]
    assert losses[-1] < losses[0]


def test_the_run_says_what_it_decided_and_records_every_figure(world, train, tmp_path):
    result = train(tmp_path, "--train-iters", "3", "--save-iters", "1")
    for line in (
        "device: cpu, 1 processes over gloo",
        "layout: tp 1 x pp 1 x cp 1 x dp 1",
        "order: file order",
        "saves: 1, 3",
        "sources: one",
        "peak: not known of a CPU, so there is no MFU; --peak-tflops gives it",
        "first sample: sample ",
        "ends the sample and is trained",
    ):
        assert line in result.stdout
    assert checkpoint_dir.list_complete(tmp_path) == [1, 3]
    records = read_metrics(tmp_path)
    assert [record["consumed_samples"] for record in records] == [8, 16, 24]
    assert all(0 < record["trained_tokens"] < record["tokens"] for record in records)
    state = json.loads((checkpoint_dir.iteration_dir(tmp_path, 3) / "run_state.json").read_text())
    assert state["iteration"] == 3
    assert (checkpoint_dir.iteration_dir(tmp_path, 3) / "hf" / "tokenizer.json").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--seq-length", "20"], "--seq-length 20: sample"),
        (["--global-batch-size", "65"], "--global-batch-size 65: the data has 64 samples"),
        (["--tensor-model-parallel-size", "4"], "query groups"),
        (["--tensor-model-parallel-size", "2"], "1 processes cannot be split into tp 2"),
        (["--no-such-option", "1"], "no-such-option"),
        (["--data", "/no/such/folder"], "/no/such/folder"),
    ],
)
def test_a_wrong_option_is_named(train, tmp_path, options, message):
    num_processes = 4 if options[-1] == "4" else 1
    result = train(tmp_path, *options, check=False, num_processes=num_processes)
    assert result.returncode != 0
    assert message in result.stderr
