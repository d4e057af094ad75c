"""Padding of the vocabulary gets no probability, in one process and split over two."""

import subprocess
import sys

import pytest

pytest.importorskip("megatron.core")

from tests.train.harness import REPOSITORY, trainer_environment

pytestmark = [pytest.mark.trainer, pytest.mark.slow]

PROGRAM = """
import sys, torch
from megatron_sft.model.device import process_group, select_device
from megatron_sft.model.gpt import initialize_model_parallel
from megatron_sft.model.layout import ParallelLayout
from megatron_sft.train.loss import token_losses, weighted_sum

VOCAB, PADDED, T = 13, 20, 6
device = select_device("cpu")
with process_group(device), device.activate():
    tp = torch.distributed.get_world_size()
    initialize_model_parallel(ParallelLayout(tensor_model_parallel_size=tp))
    torch.manual_seed(0)
    logits = torch.randn(1, T, PADDED, dtype=torch.float64).float()
    labels, weights = torch.tensor([[0, 12, 5, 9, 10, 1]]), torch.tensor([[0.1, 0.2, 0.0, 0.3, 0.25, 0.15]])
    width = PADDED // tp
    start = torch.distributed.get_rank() * width
    part = logits[..., start : start + width].clone().requires_grad_()
    loss = weighted_sum(token_losses(part, labels, VOCAB), weights)
    loss.backward()

    real = logits[..., :VOCAB].clone().requires_grad_()
    reference = (torch.nn.functional.cross_entropy(real[0], labels[0], reduction="none") * weights[0]).sum()
    reference.backward()
    whole = torch.zeros(1, T, PADDED)
    whole[..., :VOCAB] = real.grad
    torch.testing.assert_close(loss, reference, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(part.grad, whole[..., start : start + width], rtol=1e-5, atol=1e-7)
    print("checked", loss.item(), flush=True)
"""


@pytest.mark.parametrize("tp", [1, 2])
def test_loss_and_gradient_are_those_of_the_unpadded_vocabulary(tmp_path, tp):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(tp)]
    command += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", str(program)]
    result = subprocess.run(
        command, cwd=REPOSITORY, env=trainer_environment(), capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout.count("checked") == tp
