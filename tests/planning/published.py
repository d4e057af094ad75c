"""Values of the published Qwen3 config.json files, and the parameters that the published weight files hold."""

from typing import Any

COMMON: dict[str, Any] = {
    "model_type": "qwen3",
    "head_dim": 128,
    "vocab_size": 151936,
    "num_key_value_heads": 8,
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000000,
}


def config(layers: int, hidden: int, ffn: int, heads: int, *, tied: bool, **changes: Any) -> dict[str, Any]:
    """A config.json's content."""
    return COMMON | {
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "intermediate_size": ffn,
        "num_attention_heads": heads,
        "tie_word_embeddings": tied,
        **changes,
    }


QWEN3 = {
    "qwen3-0.6b": (config(28, 1024, 3072, 16, tied=True), 596_049_920),
    "qwen3-1.7b": (config(28, 2048, 6144, 16, tied=True), 1_720_574_976),
    "qwen3-4b": (config(36, 2560, 9728, 32, tied=True), 4_022_468_096),
    "qwen3-8b": (config(36, 4096, 12288, 32, tied=False), 8_190_735_360),
    "qwen3-14b": (config(40, 5120, 17408, 40, tied=False), 14_768_307_200),
    "qwen3-32b": (config(64, 5120, 25600, 64, tied=False), 32_762_123_264),
}

TINY = config(4, 64, 96, 4, tied=True, head_dim=16, num_key_value_heads=2, vocab_size=330, max_position_embeddings=512)
"""A model of four layers whose vocabulary is padded to 384 rows."""
