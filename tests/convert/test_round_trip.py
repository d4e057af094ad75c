"""Hugging Face -> Megatron-Core -> distributed checkpoint -> Hugging Face: the same bytes and the same logits."""

import json
from pathlib import Path

import pytest
import torch

from megatron_sft.convert.from_hf import import_model
from megatron_sft.convert.to_hf import export
from tests.convert.models import read_weights, run_ranks, same_bytes, save_model

pytestmark = pytest.mark.trainer

# All ways in which Megatron-Core stores layers, and the gate and up projections.
STORAGE: dict[str, dict[str, bool]] = {
    "stacked": {},
    "per-layer": {"non_homogeneous_layers": True},
    "gate-and-up-apart": {"singleton_local_shards": True},
}


def reference_logits(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Some tokens [n] and what transformers computes for them [n, vocab]."""
    import transformers

    tokens = torch.randint(0, 101, (24,), generator=torch.Generator().manual_seed(1))
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        logits: torch.Tensor = model(tokens[None]).logits[0]
    assert logits.std() > 0.1, "logits too small to tell models apart"
    return tokens, logits


@pytest.mark.slow
def test_tensor_and_pipeline_parallel(tmp_path: Path) -> None:
    models = [save_model(tmp_path / name, tie_word_embeddings=name == "tied") for name in ("tied", "untied")]
    torch.save({str(folder): reference_logits(folder) for folder in models}, tmp_path / "logits.pt")
    jobs = [(folder, tmp_path / f"{folder.name}-{name}") for folder in models for name in STORAGE]
    (tmp_path / "jobs.json").write_text(
        json.dumps([(str(folder), str(save), STORAGE[save.name.split("-", 1)[1]]) for folder, save in jobs])
    )
    run_ranks(2, tmp_path / "logits.pt", tmp_path / "jobs.json", num_ranks=4)
    for folder, save in jobs:
        export(save, save / "export")
        assert same_bytes(read_weights(folder), read_weights(save / "export"))


def test_single_process(any_model: Path, tmp_path: Path) -> None:
    import_model(any_model, tmp_path / "save")
    summary = export(tmp_path / "save", tmp_path / "export")
    assert summary.iteration == 0
    assert same_bytes(read_weights(any_model), read_weights(tmp_path / "export"))
    tokens, logits = reference_logits(any_model)
    assert torch.equal(reference_logits(tmp_path / "export")[1], logits)
    assert len(tokens) == 24


def test_bfloat16_stays_bfloat16(tmp_path: Path) -> None:
    model = save_model(tmp_path / "hf", dtype=torch.bfloat16)
    import_model(model, tmp_path / "save")
    assert export(tmp_path / "save", tmp_path / "export").dtype == torch.bfloat16
    assert same_bytes(read_weights(model), read_weights(tmp_path / "export"))
    assert json.loads((tmp_path / "export" / "config.json").read_text())["dtype"] == "bfloat16"
