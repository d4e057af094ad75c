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


def test_qwen2_has_biases_and_heads_of_the_hidden_size() -> None:
    config = without("head_dim", "attention_bias") | {"model_type": "qwen2"}
    geometry = ModelGeometry.from_hf_config(config)
    assert (geometry.add_qkv_bias, geometry.qk_layernorm, geometry.kv_channels) == (True, False, 128)
    assert geometry.model_type == "qwen2"
    assert ModelGeometry.from_hf_config(config | {"hidden_size": 2048}).kv_channels == 64
    with pytest.raises(ConfigError, match=r"hidden_size=4097 .* set head_dim"):
        ModelGeometry.from_hf_config(config | {"hidden_size": 4097})


@pytest.mark.parametrize("model_type", ["llama", "internlm2"])
def test_what_older_configs_leave_out(model_type: str) -> None:
    config = without("head_dim", "num_key_value_heads", "rope_theta") | {"model_type": model_type}
    geometry = ModelGeometry.from_hf_config(config)
    assert (geometry.num_query_groups, geometry.rotary_base, geometry.kv_channels) == (32, 1e4, 128)
    assert not (geometry.add_qkv_bias or geometry.qk_layernorm or geometry.tie_word_embeddings)
    assert ModelGeometry.from_hf_config(config | {"num_key_value_heads": 8}).num_query_groups == 8


def test_dynamic_scaling_limits_documents() -> None:
    config = without("head_dim") | {"model_type": "internlm2", "bias": False, "max_position_embeddings": 32768}
    assert ModelGeometry.from_hf_config(config).longest_exact_document is None
    scaled = ModelGeometry.from_hf_config(config | {"rope_scaling": {"type": "dynamic", "factor": 2.0}})
    assert scaled.longest_exact_document == 32768
    linear = ModelGeometry.from_hf_config(config | {"rope_scaling": {"type": "linear", "factor": 2.0}})
    assert linear.longest_exact_document is None


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
        (changed(model_type="gpt2"), ["model_type", "'gpt2'", "internlm2, llama, qwen2, qwen3"]),
        (without("model_type"), ["model_type", "None"]),
        (changed(model_type="qwen2", use_sliding_window=True), ["use_sliding_window=True"]),
        (changed(model_type="llama", attention_bias=True), ["attention_bias=True"]),
        (changed(model_type="llama", mlp_bias=True), ["mlp_bias=True"]),
        (changed(model_type="internlm2", bias=True), ["bias=True"]),
        (changed(model_type="internlm2", rope_scaling={"type": "yarn", "factor": 2.0}), ["yarn", "linear, dynamic"]),
        (changed(model_type="qwen2", num_key_value_heads=None), ["num_key_value_heads", "None"]),
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
