"""A packed row on TransformerEngine's path is as good as its documents one by one."""

from itertools import pairwise

import pytest

pytest.importorskip("megatron.core")

import torch

from megatron_sft.convert.hf_weights import load_hf_into
from megatron_sft.model.device import process_group, select_device
from megatron_sft.model.geometry import ModelGeometry
from megatron_sft.model.gpt import build_gpt, model_parallel, transformer_config
from megatron_sft.model.layout import ParallelLayout
from tests.gpu.rows import row_of
from tests.train.harness import read_metrics

BOUNDS = [0, 100, 257, 384]


def test_logits_are_those_of_separate_documents(gpu_model):
    geometry = ModelGeometry.from_hf_config(gpu_model)
    device = select_device("cuda")
    with process_group(device), device.activate(), model_parallel(ParallelLayout()), torch.no_grad():
        config = transformer_config(geometry, ParallelLayout(), device, dtype=torch.bfloat16)
        model = build_gpt(config, geometry, device).eval()
        load_hf_into(model, geometry, gpu_model)

        def logits(documents: list[torch.Tensor]) -> torch.Tensor:
            row = row_of(documents)
            return model(row.tokens, row.position_ids, None, packed_seq_params=row.packed_seq_params())[0].double()

        tokens = torch.randint(0, geometry.vocab_size, (BOUNDS[-1],), device=device.torch_device)
        documents = [tokens[start:end] for start, end in pairwise(BOUNDS)]
        packed, alone = logits(documents), torch.cat([logits([document]) for document in documents])
        as_one = logits([tokens])
    assert relative_error(packed, alone) < 1e-2
    # What the test would find if documents saw each other.
    assert relative_error(as_one, alone) > 5e-2


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def test_other_rows_give_the_same_losses_and_gradient_norms(train, gpu_model, tmp_path):
    common = ["--train-iters", "3", "--lr", "3e-4", "--init-from", str(gpu_model), "--device", "cuda"]
    records = {}
    for seq_length in ("256", "1024"):
        train(tmp_path / seq_length, *common, "--seq-length", seq_length, flags=["--bf16"])
        records[seq_length] = read_metrics(tmp_path / seq_length)
    assert records["256"][0]["num_rows"] > records["1024"][0]["num_rows"]
    for short, long in zip(records["256"], records["1024"], strict=True):
        assert short["loss"] == pytest.approx(long["loss"], rel=2e-3), short["iteration"]
        assert short["grad_norm"] == pytest.approx(long["grad_norm"], rel=2e-2), short["iteration"]
