"""Geometries that `--model` knows by name, with the values of the published `config.json` files."""

from megatron_sft.errors import ConfigError
from megatron_sft.model.geometry import ModelGeometry

_COLUMNS = (
    "num_hidden_layers",
    "hidden_size",
    "intermediate_size",
    "num_attention_heads",
    "num_key_value_heads",
    "tie_word_embeddings",
)
_QWEN3 = {
    "model_type": "qwen3",
    "head_dim": 128,
    "vocab_size": 151936,
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e6,
}
_QWEN2 = {
    "model_type": "qwen2",
    "vocab_size": 151936,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e6,
}
_INTERNLM2 = {
    "model_type": "internlm2",
    "vocab_size": 92544,
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-5,
    "rope_theta": 1e6,
}
_SMOLLM2 = {
    "model_type": "llama",
    "vocab_size": 49152,
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-5,
    "rope_theta": 1e5,
}
_Row = tuple[dict[str, object], tuple[int, int, int, int, int, bool]]
# Qwen/Qwen3-*, Qwen/Qwen2.5-*, internlm/internlm2_5-20b and HuggingFaceTB/SmolLM2-135M on huggingface.co.
_MODELS: dict[str, _Row] = {
    "qwen3-0.6b": (_QWEN3, (28, 1024, 3072, 16, 8, True)),
    "qwen3-1.7b": (_QWEN3, (28, 2048, 6144, 16, 8, True)),
    "qwen3-4b": (_QWEN3, (36, 2560, 9728, 32, 8, True)),
    "qwen3-8b": (_QWEN3, (36, 4096, 12288, 32, 8, False)),
    "qwen3-14b": (_QWEN3, (40, 5120, 17408, 40, 8, False)),
    "qwen3-32b": (_QWEN3, (64, 5120, 25600, 64, 8, False)),
    "qwen2.5-1.5b": (_QWEN2, (28, 1536, 8960, 12, 2, True)),
    "qwen2.5-3b": (_QWEN2 | {"max_position_embeddings": 32768}, (36, 2048, 11008, 16, 2, True)),
    "qwen2.5-7b": (_QWEN2 | {"vocab_size": 152064}, (28, 3584, 18944, 28, 4, False)),
    "qwen2.5-14b": (_QWEN2 | {"vocab_size": 152064, "rms_norm_eps": 1e-5}, (48, 5120, 13824, 40, 8, False)),
    "internlm2.5-20b": (_INTERNLM2, (48, 6144, 16384, 48, 8, False)),
    "smollm2-135m": (_SMOLLM2, (30, 576, 1536, 9, 3, True)),
}
KNOWN = tuple(_MODELS)


def geometry_of(model: str) -> ModelGeometry:
    """The geometry of a model known by name, or read from a `config.json` or a folder that holds one.

    Raises:
        ConfigError: for anything else; the message names what is known.
    """
    if model in _MODELS:
        family, values = _MODELS[model]
        return ModelGeometry.from_hf_config({**family, **dict(zip(_COLUMNS, values, strict=True))})
    try:
        return ModelGeometry.from_hf_config(model)
    except ConfigError as error:
        raise ConfigError(f"--model: {error}; or one of {', '.join(KNOWN)}") from error
