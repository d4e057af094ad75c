"""Twenty iterations against a plain loop: transformers on one sample at a time, torch's AdamW and gradient clipping."""

import math

import pytest

pytest.importorskip("megatron.core")

from megatron_sft.data.shards import ShardReader
from tests.train.harness import BATCH
from tests.train.layout_runs import run_all

pytestmark = [pytest.mark.trainer, pytest.mark.slow]

ITERATIONS = 20
WARMUP = 2
LR = 1e-3
RANKS, GROUP = 2, 2
WEIGHTINGS = {
    "token-mean": {},
    "sample-mean": {"loss_weighting": "sample-mean"},
    "reference": {"loss_weighting": "reference", "reference_ranks": RANKS, "reference_group_size": GROUP},
}


@pytest.fixture(scope="module")
def runs(world, tmp_path_factory):
    schedule = {"train_iters": ITERATIONS, "lr_warmup_iters": WARMUP, "lr": LR}
    options = {name: schedule | changes for name, changes in WEIGHTINGS.items()}
    return run_all(world, tmp_path_factory.mktemp("weightings"), options, 1)


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_losses_and_gradient_norms_are_those_of_a_plain_loop(runs, world, weighting):
    expected = plain_loop(world, weighting)
    assert expected[-1][0] < expected[0][0] - 0.5, "it should learn something"
    for record, (loss, norm) in zip(runs[weighting], expected, strict=True):
        assert record["loss"] == pytest.approx(loss, rel=1e-4), record["iteration"]
        assert record["grad_norm"] == pytest.approx(norm, rel=1e-3), record["iteration"]
    assert runs[weighting][0]["loss"] == pytest.approx(expected[0][0], rel=1e-5)
    assert runs[weighting][0]["grad_norm"] == pytest.approx(expected[0][1], rel=1e-5)


def plain_loop(world, weighting):
    """Loss and gradient norm of each iteration."""
    import torch
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(world.model, dtype=torch.float32)
    matrices = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    vectors = [parameter for parameter in model.parameters() if parameter.ndim == 1]
    groups = [{"params": matrices, "weight_decay": 0.01}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=LR, betas=(0.9, 0.999), eps=1e-8)
    schedule = transformers.get_cosine_schedule_with_warmup(optimizer, WARMUP, ITERATIONS)
    reader = ShardReader(world.shards)
    history = []
    for iteration in range(ITERATIONS):
        first = iteration * BATCH % len(reader)
        losses = [token_losses(model, reader.sample(index)) for index in range(first, first + BATCH)]
        loss = backward(weighting, losses)
        norm = float(torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0))
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        history.append((loss, norm))
        assert math.isfinite(loss)
    return history


def token_losses(model, sample):
    """Negative log likelihood of each trained token."""
    import torch

    tokens = torch.from_numpy(sample.tokens.astype("int64"))
    trained = torch.from_numpy(sample.trained[1:].astype(bool))
    logits = model(tokens[None]).logits[0, :-1]
    return torch.nn.functional.cross_entropy(logits, tokens[1:], reduction="none")[trained]


def backward(weighting, losses):
    """Compute the gradients of one batch, and return the loss that the weighting reports."""
    import torch

    if weighting == "token-mean":
        loss = torch.cat(losses).mean()
        loss.backward()
        return float(loss)
    if weighting == "sample-mean":
        loss = torch.stack([values.mean() for values in losses]).mean()
        loss.backward()
        return float(loss)
    # The reference trainer: each rank runs through its share in groups and adds up gradients, which the ranks average.
    group_losses = []
    for rank in range(RANKS):
        share = losses[rank::RANKS]
        starts = range(0, len(share), GROUP)
        group_losses += [torch.cat(share[start : start + GROUP]).mean() for start in starts]
    (torch.stack(group_losses).sum() / RANKS).backward()
    return float(torch.stack(group_losses).mean())
