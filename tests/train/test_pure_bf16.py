"""Weights, gradients and moments in bf16: the updates are those of torch's AdamW on a bf16 model, bit for bit."""

import subprocess
import sys

import pytest

from tests.train.harness import read_metrics, trainer_environment

pytestmark = [pytest.mark.trainer, pytest.mark.slow]

PROGRAM = """
import sys
from pathlib import Path

import torch

from megatron_sft.model.device import process_group, select_device
from megatron_sft.model.geometry import ModelGeometry
from megatron_sft.model.gpt import model_parallel
from megatron_sft.pretrain_sft import make_learner
from megatron_sft.train.options import TrainOptions

options = TrainOptions(
    data=Path("unused"),
    save=Path("unused"), init_from=Path(sys.argv[1]), global_batch_size=1, seq_length=8,
    train_iters=9, lr=1e-2, lr_decay_style="constant", weight_decay=0.1, decay_norms_and_biases=True,
    clip_grad=1.0, bf16=True, pure_bf16=True, device="cpu",
)
device = select_device("cpu")
with process_group(device), device.activate(), model_parallel(options.layout):
    learner = make_learner(options, ModelGeometry.from_hf_config(sys.argv[1]), device)
    model = learner.chunks[0].module
    names = [name for name, _ in model.named_parameters()]
    twins = {name: torch.nn.Parameter(p.detach().clone()) for name, p in model.named_parameters()}
    assert {twin.dtype for twin in twins.values()} == {torch.bfloat16}
    plain = torch.optim.AdamW(twins.values(), lr=1e-2, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.1)
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        for name, parameter in model.named_parameters():
            gradient = torch.randn(parameter.shape, generator=generator).to(torch.bfloat16)
            parameter.main_grad.copy_(gradient)
            twins[name].grad = gradient.clone()
        assert {parameter.main_grad.dtype for parameter in model.parameters()} == {torch.bfloat16}
        assert learner.learning_rate() == 1e-2
        norm = learner.gradient_norm()
        learner.update(1)
        exact = sum(float(twin.grad.float().square().sum()) for twin in twins.values()) ** 0.5
        assert abs(norm / exact - 1) < 1e-4
        torch.nn.utils.clip_grads_with_norm_(twins.values(), 1.0, torch.tensor(norm))
        plain.step()
    different = [name for name, p in model.named_parameters() if not torch.equal(p, twins[name])]
    assert not different, different
    states = [s for part in learner.optimizer.chained_optimizers for s in part.optimizer.state.values()]
    assert {s["exp_avg"].dtype for s in states} == {s["exp_avg_sq"].dtype for s in states} == {torch.bfloat16}
    print("EQUAL", len(names))
"""


def test_updates_are_those_of_torchs_adamw(world):
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(world.model)], env=trainer_environment(), capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout.split()[-2:] == ["EQUAL", "34"], result.stdout


def test_a_run_resumes_exactly_and_ranks_share_the_state(train, tmp_path):
    options = ["--train-iters", "6", "--save-interval", "3"]
    flags = ["--bf16", "--pure-bf16", "--decay-norms-and-biases"]
    train(tmp_path / "whole", *options, flags=flags)
    train(tmp_path / "two", *options, num_processes=2, flags=flags)
    whole, two = read_metrics(tmp_path / "whole"), read_metrics(tmp_path / "two")
    # bf16 has 8 bits: the order of sums shows.
    assert [r["loss"] for r in two] == pytest.approx([r["loss"] for r in whole], rel=2e-2)
    (tmp_path / "two" / "iter_0000006" / "complete.json").unlink()
    train(tmp_path / "two", *options, num_processes=2, flags=flags)
    assert [(r["loss"], r["grad_norm"]) for r in read_metrics(tmp_path / "two")] == [
        (r["loss"], r["grad_norm"]) for r in two
    ]
