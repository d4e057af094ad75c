"""Geometry from config.json: both spellings of transformers, and a refusal for everything else."""

import json
from pathlib import Path
from typing import Any

import pytest

from megatron_sft.errors import ConfigError
from megatron_sft.model.geometry import ModelGeometry

QWEN3_8B = {
    "model_type": "qwen3",
    "architectures": ["Qwen3ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "head_dim": 128,
    "hidden_act": "silu",
    "hidden_size": 4096,
    "intermediate_size": 12288,
    "max_position_embeddings": 40960,
    "max_window_layers": 36,
    "num_attention_heads": 32,
    "num_hidden_layers": 36,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "sliding_window": None,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "use_sliding_window": False,
    "vocab_size": 151936,
}


def changed(**values: Any) -> dict[str, Any]:
    return {**QWEN3_8B, **values}


def without(*names: str) -> dict[str, Any]:
    return {name: value for name, value in QWEN3_8B.items() if name not in names}


def test_reads_every_field() -> None:
    geometry = ModelGeometry.from_hf_config(QWEN3_8B)
    assert geometry == ModelGeometry(
        num_layers=36,
        hidden_size=4096,
        ffn_hidden_size=12288,
        num_attention_heads=32,
        num_query_groups=8,
        kv_channels=128,
        vocab_size=151936,
        max_position_embeddings=40960,
        rotary_base=1e6,
        norm_epsilon=1e-6,
        qk_layernorm=True,
        tie_word_embeddings=False,
        add_qkv_bias=False,
        hf_config={},
    )
    assert geometry.hf_config == QWEN3_8B
    assert geometry.model_type == "qwen3"


def test_folder_file_and_content_are_the_same(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(QWEN3_8B))
    expected = ModelGeometry.from_hf_config(QWEN3_8B)
    assert ModelGeometry.from_hf_config(tmp_path) == expected
    assert ModelGeometry.from_hf_config(str(path)) == expected


def test_both_spellings_of_the_rotary_base() -> None:
    old = ModelGeometry.from_hf_config(changed(rope_theta=5e6))
    new = ModelGeometry.from_hf_config(
        without("rope_theta", "rope_scaling") | {"rope_parameters": {"rope_theta": 5e6, "rope_type": "default"}}
    )
    assert old == new
    assert new.rotary_base == 5e6
    assert ModelGeometry.from_hf_config(changed(rope_scaling={"type": "default"})).rotary_base == 1e6


def test_absent_head_dim_is_what_transformers_assumes() -> None:
    transformers = pytest.importorskip("transformers")
    config = without("head_dim") | {"hidden_size": 1024, "num_attention_heads": 16}
    assert ModelGeometry.from_hf_config(config).kv_channels == transformers.Qwen3Config(**config).head_dim == 128
    assert ModelGeometry.from_hf_config(changed(head_dim=64)).kv_channels == 64


@pytest.mark.trainer
def test_reads_what_transformers_writes(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    transformers.Qwen3Config(**without("rope_theta", "rope_scaling"), rope_theta=1e6).save_pretrained(tmp_path)
    assert ModelGeometry.from_hf_config(tmp_path) == ModelGeometry.from_hf_config(QWEN3_8B)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (changed(model_type="llama"), ["model_type", "'llama'", "qwen3"]),
        (without("model_type"), ["model_type", "None"]),
        (changed(rope_scaling={"rope_type": "yarn", "factor": 4.0}), ["rope_scaling", "yarn", "null"]),
        (changed(rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 1e6}), ["rope_parameters"]),
        (changed(rope_parameters={"rope_type": "default", "rope_theta": 1e4}), ["contradicting", "10000", "1e+06"]),
        (without("rope_theta"), ["rope_theta"]),
        (changed(partial_rotary_factor=0.5), ["partial_rotary_factor", "0.5"]),
        (changed(use_sliding_window=True), ["use_sliding_window=True"]),
        (changed(layer_types=["full_attention", "sliding_attention"]), ["sliding_attention"]),
        (changed(hidden_act="gelu"), ["hidden_act='gelu'", "silu"]),
        (changed(attention_bias=True), ["attention_bias=True"]),
        (changed(attention_dropout=0.1), ["attention_dropout=0.1"]),
        (changed(quantization_config={"bits": 4}), ["quantization_config"]),
        (changed(num_hidden_layers=0), ["num_hidden_layers", "0"]),
        (changed(hidden_size="4096"), ["hidden_size", "'4096'"]),
        (without("vocab_size"), ["vocab_size", "missing"]),
        (changed(rms_norm_eps=0), ["rms_norm_eps"]),
        (changed(tie_word_embeddings="yes"), ["tie_word_embeddings", "'yes'"]),
        (changed(num_key_value_heads=5), ["num_attention_heads=32", "num_key_value_heads=5"]),
        (changed(head_dim=127), ["head_dim=127"]),
    ],
)
def test_refuses_what_it_cannot_do(config: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        ModelGeometry.from_hf_config(config)
    for word in words:
        assert word in str(error.value)


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config\.json: cannot read"):
        ModelGeometry.from_hf_config(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ConfigError, match=r"config\.json: not a JSON file"):
        ModelGeometry.from_hf_config(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ConfigError, match="expected a JSON object, found list"):
        ModelGeometry.from_hf_config(tmp_path)


def test_vocabulary_padding_is_the_same_for_every_tp_that_divides_it() -> None:
    geometry = ModelGeometry.from_hf_config(changed(vocab_size=101))
    assert [geometry.padded_vocab_size(tp) for tp in (1, 2, 4, 64)] == [128, 128, 128, 128]
    assert geometry.padded_vocab_size(3) == 192
    assert geometry.padded_vocab_size(1, divisible_by=101) == 101
    with pytest.raises(ConfigError):
        geometry.padded_vocab_size(0)
