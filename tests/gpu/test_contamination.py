"""TransformerEngine's packed attention keeps documents apart."""

from itertools import pairwise

import pytest

pytest.importorskip("megatron.core")

import torch

from megatron_sft.model.device import process_group, select_device
from megatron_sft.model.geometry import ModelGeometry
from megatron_sft.model.gpt import build_gpt, model_parallel, transformer_config
from megatron_sft.model.layout import ParallelLayout
from tests.gpu.rows import row_of

BOUNDS = [0, 100, 256, 384]


def test_another_documents_tokens_change_no_logit(gpu_model):
    geometry = ModelGeometry.from_hf_config(gpu_model)
    device = select_device("cuda")
    with process_group(device), device.activate(), model_parallel(ParallelLayout()), torch.no_grad():
        config = transformer_config(geometry, ParallelLayout(), device, dtype=torch.bfloat16)
        model = build_gpt(config, geometry, device).eval()

        def logits(tokens: torch.Tensor) -> torch.Tensor:
            row = row_of([tokens[start:end] for start, end in pairwise(BOUNDS)])
            return model(row.tokens, row.position_ids, None, packed_seq_params=row.packed_seq_params())[0]

        tokens = torch.randint(0, geometry.vocab_size, (BOUNDS[-1],), device=device.torch_device)
        changed = tokens.clone()
        changed[BOUNDS[1] : BOUNDS[2]] = (changed[BOUNDS[1] : BOUNDS[2]] + 1) % geometry.vocab_size
        before, after = logits(tokens), logits(changed)
    inside = slice(BOUNDS[1], BOUNDS[2])
    assert not torch.equal(before[inside], after[inside])
    for outside in (slice(0, BOUNDS[1]), slice(BOUNDS[2], None)):
        assert torch.equal(before[outside], after[outside])
