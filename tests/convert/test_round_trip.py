"""Hugging Face -> Megatron-Core -> distributed checkpoint -> Hugging Face: the same bytes and the same logits."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from megatron_sft.convert.from_hf import import_model
from megatron_sft.convert.to_hf import export
from tests.convert.models import (
    INTERNLM2_CODE,
    internlm2_tensors,
    megatron_tensors,
    read_weights,
    run_ranks,
    same_bytes,
    save_as_internlm2,
    save_model,
)
from tests.convert.reference import make_reference

pytestmark = pytest.mark.trainer

# All ways in which Megatron-Core stores layers, and the gate and up projections.
STORAGE: dict[str, dict[str, bool]] = {
    "stacked": {},
    "per-layer": {"non_homogeneous_layers": True},
    "gate-and-up-apart": {"singleton_local_shards": True},
}


LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
    "rope_theta": 10000.0,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32, "rope_theta": 10000.0}
LENGTHS = [40, 7, 60]
"""Tokens of the documents of a row; the longest ones go beyond the original length of the rotary scalings above."""


@dataclass(frozen=True)
class Model:
    """A model to convert, and one of the same arithmetic that transformers opens."""

    folder: Path
    same: Path


def save_models(folder: Path) -> dict[str, Model]:
    """One of each kind."""
    settings: dict[str, dict[str, Any]] = {
        "qwen3-tied": {"family": "qwen3"},
        "qwen3-untied": {"family": "qwen3", "tie_word_embeddings": False},
        "qwen2-tied": {"family": "qwen2", "rope_parameters": YARN, "max_position_embeddings": 128},
        "qwen2-untied": {"family": "qwen2", "tie_word_embeddings": False},
        "llama": {"family": "llama", "rope_parameters": LLAMA3, "max_position_embeddings": 256},
        "llama-plain": {"family": "llama"},
    }
    saved = {name: save_model(folder / name, **values) for name, values in settings.items()}
    models = {name: Model(folder=path, same=path) for name, path in saved.items()}
    internlm2 = save_as_internlm2(saved["llama-plain"], folder / "internlm2")
    return models | {"internlm2": Model(folder=internlm2, same=saved["llama-plain"])}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    return save_models(tmp_path_factory.mktemp("models"))


@pytest.mark.slow
def test_tensor_and_pipeline_parallel(models: dict[str, Model], tmp_path: Path) -> None:
    torch.save({str(model.folder): make_reference(model.same, LENGTHS) for model in models.values()}, tmp_path / "r.pt")
    jobs = [
        {"model": str(model.folder), "save": str(tmp_path / f"{name}-{way}"), "metadata": metadata, "gradients": None}
        for name, model in models.items()
        for way, metadata in STORAGE.items()
        if name.startswith("qwen3") or way == "stacked"
    ]
    (tmp_path / "jobs.json").write_text(json.dumps(jobs))
    run_ranks(2, 1, tmp_path / "r.pt", tmp_path / "jobs.json", num_ranks=4)
    assert len(jobs) == 2 * 3 + 5
    for job in jobs:
        export(job["save"], Path(job["save"]) / "export")
        assert same_bytes(read_weights(Path(job["model"])), read_weights(Path(job["save"]) / "export")), job


@pytest.mark.slow
def test_three_ranks_and_interleaved_stages(tmp_path: Path) -> None:
    """tp 3 x pp 2 in 2 virtual stages, with the heads of SmolLM2: 9 in 3 groups; from both kinds of folders."""
    heads = {"hidden_size": 72, "num_attention_heads": 9, "num_key_value_heads": 3}
    references, jobs, tied = {}, [], {"tied": True, "untied": False}
    for name, is_tied in tied.items():
        model = save_model(tmp_path / name, family="llama", **heads, tie_word_embeddings=is_tied)
        references[str(model)] = make_reference(model, LENGTHS)
        job: dict[str, Any] = {"model": str(model), "metadata": {}, "gradients": None}
        imported = import_model(model, tmp_path / name / "imported")
        jobs += [job | {"save": str(model / "save")}, job | {"save": None, "checkpoint": str(imported)}]
    torch.save(references, tmp_path / "r.pt")
    (tmp_path / "jobs.json").write_text(json.dumps(jobs))
    run_ranks(3, 2, tmp_path / "r.pt", tmp_path / "jobs.json", num_ranks=6)
    for name in tied:
        export(tmp_path / name / "save", tmp_path / name / "export")
        assert same_bytes(read_weights(tmp_path / name), read_weights(tmp_path / name / "export"))


@pytest.mark.slow
def test_gradients_under_tensor_parallelism(models: dict[str, Model], tmp_path: Path) -> None:
    """Biases of queries, keys and values included; norms of heads are summed over ranks later, hence no Qwen3."""
    references, jobs = {}, []
    for name in ("qwen2-tied", "qwen2-untied", "llama", "internlm2"):
        model, gradients = models[name], {}
        references[str(model.folder)] = make_reference(model.same, LENGTHS, gradients)
        folder = tmp_path / name
        folder.mkdir()
        if name == "internlm2":
            gradients = internlm2_tensors(gradients, json.loads((model.same / "config.json").read_text()))
        save_file({name: tensor.contiguous() for name, tensor in gradients.items()}, folder / "model.safetensors")
        jobs.append({"model": str(model.folder), "save": None, "gradients": str(folder)})
    torch.save(references, tmp_path / "r.pt")
    (tmp_path / "jobs.json").write_text(json.dumps(jobs))
    run_ranks(2, 1, tmp_path / "r.pt", tmp_path / "jobs.json", num_ranks=2)


@pytest.mark.parametrize("name", ["qwen3-tied", "qwen3-untied", "qwen2-tied", "qwen2-untied", "llama", "internlm2"])
def test_single_process(name: str, models: dict[str, Model], tmp_path: Path) -> None:
    folder = models[name].folder
    import_model(folder, tmp_path / "save")
    summary = export(tmp_path / "save", tmp_path / "export")
    assert summary.iteration == 0
    assert same_bytes(read_weights(folder), read_weights(tmp_path / "export"))
    if name != "internlm2":
        expected = make_reference(folder, LENGTHS).logits
        assert torch.equal(make_reference(tmp_path / "export", LENGTHS).logits, expected)


def test_internlm2_keeps_its_format_and_code(
    models: dict[str, Model], write_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    folder = models["internlm2"].folder
    export(write_checkpoint(folder, megatron_tensors(folder)), tmp_path / "export")
    assert same_bytes(read_weights(folder), read_weights(tmp_path / "export"))
    before, after = (json.loads((path / "config.json").read_text()) for path in (folder, tmp_path / "export"))
    assert after == before
    assert after["auto_map"] == INTERNLM2_CODE["auto_map"]
    for name in ("configuration_internlm2.py", "modeling_internlm2.py"):
        assert (tmp_path / "export" / name).read_bytes() == (folder / name).read_bytes()
    wqkv = read_weights(tmp_path / "export")["model.layers.0.attention.wqkv.weight"]
    assert wqkv.shape == (64 + 2 * 32, 64)


def test_bfloat16_stays_bfloat16(tmp_path: Path) -> None:
    model = save_model(tmp_path / "hf", dtype=torch.bfloat16)
    import_model(model, tmp_path / "save")
    assert export(tmp_path / "save", tmp_path / "export").dtype == torch.bfloat16
    assert same_bytes(read_weights(model), read_weights(tmp_path / "export"))
    assert json.loads((tmp_path / "export" / "config.json").read_text())["dtype"] == "bfloat16"
