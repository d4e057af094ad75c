"""Frequencies and attention factors of every scaling against those that transformers computes."""

import math
from typing import Any

import pytest
import torch

from megatron_sft.model.geometry import ModelGeometry
from megatron_sft.model.rotary import inverse_frequencies, softmax_scale

pytestmark = pytest.mark.trainer

CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 512,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "vocab_size": 10,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-5,
}
SCALINGS: list[dict[str, Any]] = [
    {"rope_type": "linear", "factor": 4.0},
    {"rope_type": "linear", "factor": 1.7},
    {
        "rope_type": "llama3",
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    },
    {
        "rope_type": "llama3",
        "factor": 3.0,
        "low_freq_factor": 0.5,
        "high_freq_factor": 17.0,
        "original_max_position_embeddings": 1000,
    },
    {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768},
    {"rope_type": "yarn", "factor": 2.5, "original_max_position_embeddings": 4096, "truncate": False},
    {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 100, "beta_fast": 9, "beta_slow": 2},
    # The passage lies outside of the head on both sides.
    {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 3, "beta_fast": 1e4, "beta_slow": 1e-30},
    {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 4096, "attention_factor": 0.7},
    {
        "rope_type": "yarn",
        "factor": 8.0,
        "original_max_position_embeddings": 4096,
        "mscale": 1.3,
        "mscale_all_dim": 0.8,
    },
    {"rope_type": "dynamic", "factor": 2.0},
    {"rope_type": "default"},
]


@pytest.mark.parametrize("base", [1e4, 5e5])
@pytest.mark.parametrize("scaling", SCALINGS, ids=lambda s: "-".join(map(str, s.values())))
def test_frequencies_are_those_of_transformers(scaling: dict[str, Any], base: float) -> None:
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    geometry = ModelGeometry.from_hf_config(CONFIG | {"rope_theta": base, "rope_scaling": scaling})
    reference = LlamaRotaryEmbedding(LlamaConfig(**CONFIG, rope_parameters={**scaling, "rope_theta": base}))
    torch.testing.assert_close(inverse_frequencies(geometry), reference.inv_freq, rtol=3e-7, atol=0)
    expected = reference.attention_scaling**2 / math.sqrt(128)
    assert (softmax_scale(geometry) or 1 / math.sqrt(128)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    "scaling", [None, SCALINGS[0], SCALINGS[2], {"type": "dynamic", "factor": 2.0}, {"type": "yarn", "factor": 1.0}]
)
def test_other_scalings_leave_the_attention_scale_alone(scaling: dict[str, Any] | None) -> None:
    assert softmax_scale(ModelGeometry.from_hf_config(CONFIG | {"rope_scaling": scaling})) is None
