"""Hugging Face -> Megatron-Core -> distributed checkpoint -> Hugging Face: the same bytes and the same logits."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from megatron_sft.convert.dtypes import Dtype
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


def round_trip(
    models: dict[str, Model], folder: Path, jobs: list[dict[str, Any]], layout: tuple[int, int, int]
) -> None:
    """Load, compare logits, save and export with (tp, virtual stages, ranks); the export has the model's bytes."""
    tp, virtual_stages, num_ranks = layout
    references = {str(model.folder): make_reference(model.same, LENGTHS) for model in models.values()}
    torch.save(references, folder / "r.pt")
    (folder / "jobs.json").write_text(json.dumps(jobs))
    run_ranks(tp, virtual_stages, folder / "r.pt", folder / "jobs.json", num_ranks=num_ranks)
    for job in jobs:
        if job["save"] is not None:
            export(job["save"], Path(job["save"]) / "export")
            assert same_bytes(read_weights(Path(job["model"])), read_weights(Path(job["save"]) / "export")), job


def job_of(model: Model, save: Path | None, **fields: Any) -> dict[str, Any]:
    path = None if save is None else str(save)
    return {"model": str(model.folder), "save": path, "metadata": {}, "gradients": None} | fields


@pytest.mark.slow
@pytest.mark.parametrize(
    "layout", [(2, 1, 2), (1, 1, 2), (1, 2, 2), (2, 2, 4)], ids=["tp2", "pp2", "pp2-interleaved", "tp2-pp2-interleaved"]
)
def test_every_family(layout: tuple[int, int, int], models: dict[str, Model], tmp_path: Path) -> None:
    jobs = [job_of(model, tmp_path / name) for name, model in models.items()]
    round_trip(models, tmp_path, jobs, layout)


@pytest.mark.slow
def test_every_way_of_storing(models: dict[str, Model], tmp_path: Path) -> None:
    """And tp 2 x pp 2 without interleaving, written by Megatron-Core itself."""
    jobs = [
        job_of(model, tmp_path / f"{name}-{way}", metadata=metadata, writer="megatron")
        for name, model in models.items()
        for way, metadata in STORAGE.items()
        if name.startswith("qwen3") or way == "stacked"
    ]
    assert len(jobs) == 2 * 3 + 5
    round_trip(models, tmp_path, jobs, (2, 1, 4))


THREE_GROUPS: dict[str, dict[str, Any]] = {
    "qwen3": {"num_attention_heads": 9, "num_key_value_heads": 3},
    "qwen2": {"hidden_size": 72, "num_attention_heads": 9, "num_key_value_heads": 3},
    "llama": {"hidden_size": 72, "num_attention_heads": 9, "num_key_value_heads": 3},
    "llama-tied": {"hidden_size": 72, "num_attention_heads": 9, "num_key_value_heads": 3, "tie_word_embeddings": True},
}
"""Heads that three ranks can share; SmolLM2-135M has 9 in 3 groups."""


@pytest.mark.slow
@pytest.mark.parametrize("layout", [(3, 1, 3), (3, 2, 6)], ids=["tp3", "tp3-pp2-interleaved"])
def test_three_ranks(layout: tuple[int, int, int], tmp_path: Path) -> None:
    """Every family; from Hugging Face folders, and from what `from-hf` wrote of them."""
    models: dict[str, Model] = {}
    for name, heads in THREE_GROUPS.items():
        path = save_model(tmp_path / name, family=name.removesuffix("-tied"), **heads)
        models[name] = Model(folder=path, same=path)
    internlm2 = save_as_internlm2(models["llama"].folder, tmp_path / "internlm2")
    models["internlm2"] = Model(folder=internlm2, same=models["llama"].folder)
    jobs = []
    for name, model in models.items():
        imported = import_model(model.folder, tmp_path / "imported" / name)
        jobs += [job_of(model, tmp_path / "save" / name), job_of(model, None, checkpoint=str(imported))]
    round_trip(models, tmp_path, jobs, layout)


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
    assert export(tmp_path / "save", tmp_path / "export").dtype is Dtype.BFLOAT16
    assert same_bytes(read_weights(model), read_weights(tmp_path / "export"))
    assert json.loads((tmp_path / "export" / "config.json").read_text())["dtype"] == "bfloat16"
