"""The loss in pieces, and the fused cross entropies of Megatron-Core and TransformerEngine, against float64."""

import pytest

pytest.importorskip("megatron.core")

import megatron_sft.model.lean_megatron  # noqa: F401

import torch
from megatron.core import parallel_state
from megatron.core.extensions.transformer_engine import te_parallel_cross_entropy
from megatron.core.fusions.fused_cross_entropy import fused_vocab_parallel_cross_entropy

from megatron_sft.model.device import process_group, select_device
from megatron_sft.model.gpt import model_parallel
from megatron_sft.model.layout import ParallelLayout
from megatron_sft.train.loss import token_losses, weighted_sum
from tests.train.harness import read_metrics

T, VOCAB = 384, 1024


def ours(logits, labels):
    """[T, V] and [T] to float32[T]."""
    return token_losses(logits[None], labels[None], VOCAB)[0]


def core_fused(logits, labels):
    """Megatron-Core's own fusion; it takes [T, 1, V]."""
    group = parallel_state.get_tensor_model_parallel_group()
    return fused_vocab_parallel_cross_entropy(logits[:, None].float(), labels[:, None], group)[:, 0]


def transformer_engine_fused(logits, labels):
    """TransformerEngine's, for which Megatron-Core warns of instability."""
    group = parallel_state.get_tensor_model_parallel_group()
    # The kernel writes the gradient over its input.
    return te_parallel_cross_entropy(logits[:, None].float().clone(), labels[:, None], group)[:, 0]


@pytest.mark.parametrize("compute", [ours, core_fused, transformer_engine_fused])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_losses_and_gradients_are_those_of_float64(compute, dtype):
    device = select_device("cuda")
    with process_group(device), device.activate(), model_parallel(ParallelLayout()):
        torch.manual_seed(0)
        logits = (4 * torch.randn(T, VOCAB, device=device.torch_device)).to(dtype)
        labels = torch.randint(0, VOCAB, (T,), device=device.torch_device)
        weights = torch.rand(T, device=device.torch_device)
        weights[::3] = 0.0
        exact = logits.double().requires_grad_()
        reference = torch.nn.functional.cross_entropy(exact, labels, reduction="none")
        (reference * weights).sum().backward()
        given = logits.clone().requires_grad_()
        losses = compute(given, labels)
        weighted_sum(losses[None], weights[None]).backward()
    assert losses.dtype == torch.float32
    torch.testing.assert_close(losses.double(), reference, rtol=1e-5, atol=1e-5)
    # A gradient has the type of the logits; that of Megatron-Core's fusion is rounded to bf16 whatever they are.
    tolerance = 1e-5 if dtype == torch.float32 and compute is not core_fused else 1e-2
    assert given.grad is not None
    assert float((given.grad.double() - exact.grad).norm() / exact.grad.norm()) < tolerance
    assert (given.grad[::3] == 0).all()


def test_the_size_of_pieces_changes_nothing(train, gpu_model, tmp_path):
    common = ["--seq-length", "1024", "--train-iters", "4", "--lr", "3e-4", "--init-from", str(gpu_model)]
    records = {}
    for pieces in ("64", "300", "1024"):
        train(tmp_path / pieces, *common, "--device", "cuda", "--loss-piece-tokens", pieces, flags=["--bf16"])
        records[pieces] = read_metrics(tmp_path / pieces)
    for pieces in ("64", "300"):
        for record, whole in zip(records[pieces], records["1024"], strict=True):
            assert record["loss"] == pytest.approx(whole["loss"], rel=1e-3), (pieces, record["iteration"])
            assert record["grad_norm"] == pytest.approx(whole["grad_norm"], rel=1e-2), (pieces, record["iteration"])
