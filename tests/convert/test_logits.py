"""Each family with each rotary scaling: the Megatron model's logits are those of transformers' model.

Documents are longer than the length from which a scaling matters, and share a row.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("megatron.core")

from megatron_sft.model.device import Device, process_group, select_device
from megatron_sft.model.geometry import ModelGeometry
from megatron_sft.model.gpt import build_chunks, model_parallel, transformer_config
from megatron_sft.model.layout import ParallelLayout
from tests.convert.models import save_as_internlm2, save_model
from tests.convert.ranks import compare_logits, load
from tests.convert.reference import Reference, make_reference

pytestmark = pytest.mark.trainer

ORIGINAL = 32
LENGTHS = [70, 5, 40]
ROTARY: dict[str, dict[str, Any]] = {
    "plain": {"rope_type": "default"},
    "linear": {"rope_type": "linear", "factor": 3.0},
    "llama3": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": ORIGINAL,
    },
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": ORIGINAL},
    "yarn-factor": {
        "rope_type": "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": ORIGINAL,
        "attention_factor": 0.8,
        "beta_fast": 8.0,
        "truncate": False,
    },
    "dynamic": {"rope_type": "dynamic", "factor": 2.0},
}
SHAPES = {"qwen3": {}, "qwen2": {}, "llama": {"num_attention_heads": 6, "num_key_value_heads": 3, "hidden_size": 48}}


@pytest.fixture(scope="module")
def device() -> Iterator[Device]:
    found = select_device("cpu")
    with process_group(found), found.activate(), model_parallel(ParallelLayout()):
        yield found


def save(folder: Path, family: str, rotary: str, longest: int) -> Path:
    parameters = {"rope_theta": 10000.0, **ROTARY[rotary]}
    shape = {"max_position_embeddings": longest, **SHAPES[family]}
    return save_model(folder, family=family, rope_parameters=parameters, num_hidden_layers=2, **shape)


def megatron_model(folder: Path, device: Device) -> list[Any]:
    geometry = ModelGeometry.from_hf_config(folder)
    options = {"dtype": torch.float32, "perform_initialization": False}
    chunks = build_chunks(transformer_config(geometry, ParallelLayout(), device, **options), geometry, device)
    load(chunks, geometry, str(folder))
    return chunks


@pytest.mark.parametrize(("family", "rotary"), itertools.product(SHAPES, ROTARY))
def test_every_family_with_every_scaling(family: str, rotary: str, device: Device, tmp_path: Path) -> None:
    folder = save(tmp_path / "model", family, rotary, longest=max(LENGTHS) if rotary == "dynamic" else 256)
    reference = make_reference(folder, LENGTHS)
    compare_logits(megatron_model(folder, device), reference)
    if rotary not in ("plain", "dynamic"):
        # The comparison can fail: the same weights without scaling give other logits.
        plain = save(tmp_path / "plain", family, "plain", longest=256)
        with pytest.raises(AssertionError, match="not close"):
            compare_logits(megatron_model(plain, device), reference)


@pytest.mark.parametrize("rotary", ["plain", "linear", "dynamic"])
def test_internlm2_is_a_llama(rotary: str, device: Device, tmp_path: Path) -> None:
    """The Llama model that transformers opens has the same weights under other names."""
    llama = save(tmp_path / "llama", "llama", rotary, longest=max(LENGTHS))
    folder = save_as_internlm2(llama, tmp_path / "internlm2", rope_scaling=ROTARY[rotary])
    assert ModelGeometry.from_hf_config(folder).model_type == "internlm2"
    compare_logits(megatron_model(folder, device), make_reference(llama, LENGTHS))


def test_beyond_its_length_dynamic_scaling_is_another(device: Device, tmp_path: Path) -> None:
    """Hence such documents are refused when a run starts."""
    folder = save(tmp_path / "model", "llama", "dynamic", longest=64)
    assert ModelGeometry.from_hf_config(folder).longest_exact_document == 64
    model = megatron_model(folder, device)
    compare_logits(model, make_reference(folder, [64]))
    longer: Reference = make_reference(folder, [80])
    with pytest.raises(AssertionError, match="not close"):
        compare_logits(model, longer)
