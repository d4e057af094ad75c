"""Geometries that `--model` knows by name, with the values of the published `config.json` files."""

from megatron_sft.errors import ConfigError
from megatron_sft.model.geometry import ModelGeometry

# name: layers, hidden, ffn, heads, key-value heads, embedding tied to the output layer
_QWEN3: dict[str, tuple[int, int, int, int, int, bool]] = {
    "qwen3-0.6b": (28, 1024, 3072, 16, 8, True),
    "qwen3-1.7b": (28, 2048, 6144, 16, 8, True),
    "qwen3-4b": (36, 2560, 9728, 32, 8, True),
    "qwen3-8b": (36, 4096, 12288, 32, 8, False),
    "qwen3-14b": (40, 5120, 17408, 40, 8, False),
    "qwen3-32b": (64, 5120, 25600, 64, 8, False),
}


def geometry_of(model: str) -> ModelGeometry:
    """The geometry of a model known by name, or read from a `config.json` or a folder that holds one.

    Raises:
        ConfigError: for anything else; the message names what is known.
    """
    if model in _QWEN3:
        return ModelGeometry.from_hf_config(_config(*_QWEN3[model]))
    try:
        return ModelGeometry.from_hf_config(model)
    except ConfigError as error:
        raise ConfigError(f"--model: {error}; or one of {', '.join(_QWEN3)}") from error


def _config(layers: int, hidden: int, ffn: int, heads: int, groups: int, tied: bool) -> dict[str, object]:
    return {
        "model_type": "qwen3",
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "intermediate_size": ffn,
        "num_attention_heads": heads,
        "num_key_value_heads": groups,
        "head_dim": 128,
        "tie_word_embeddings": tied,
        "vocab_size": 151936,
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1e6,
    }
