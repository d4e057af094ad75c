"""The least time of an iteration, by hand for a model of one layer."""

import pytest

from megatron_sft.model.geometry import ModelGeometry
from megatron_sft.workbench.bench.train_floor import Rates, floor

GEOMETRY = ModelGeometry.from_hf_config(
    {
        "model_type": "qwen3",
        "num_hidden_layers": 1,
        "hidden_size": 10,
        "intermediate_size": 20,
        "num_attention_heads": 1,
        "num_key_value_heads": 1,
        "head_dim": 10,
        "vocab_size": 100,
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1e6,
        "tie_word_embeddings": True,
    }
)
RATES = Rates(tflops=1e-12, bandwidth=1.0)
"""One operation a second, one byte a second: seconds are what is counted."""


def parts(**changes: str) -> dict[str, float]:
    options = {"precision": "bf16", "recompute": "none"} | changes
    found = floor(GEOMETRY, [3, 5], 2, RATES, **options)
    return {part.name: part.seconds for part in found}


def test_parts_by_hand() -> None:
    # Query, key, value and output 10 x 10 each, gate, up and down 10 x 20: 1,000 entries. Embedding 1,000, norms 40.
    parameters = 1000 + 1000 + 20 + 20 + 10
    found = parts()
    assert found["layers' matrices"] == pytest.approx(3 * 8 * 2 * 1000)
    assert found["attention, real lengths"] == pytest.approx(3 * (9 + 25) * 2 * 10)
    assert found["output layer, logits twice"] == pytest.approx(4 * 8 * 2 * 10 * 100)
    assert found["gradients added up, a row at a time"] == pytest.approx(2 * parameters * 2 * 4)
    assert found["gradient norm and AdamW"] == pytest.approx(parameters * (2 * 4 + 2 * 12 + 2))
    assert found["what the backward pass keeps, written and read"] > 0


def test_recomputation_adds_operations_and_spares_transfers() -> None:
    kept = "what the backward pass keeps, written and read"
    none, mlp, full = (parts(recompute=how) for how in ("none", "selective", "full"))
    assert full["layers' matrices"] == pytest.approx(4 / 3 * none["layers' matrices"])
    # Of 1,000 entries of a layer 600 are the feed-forward part's.
    assert mlp["layers' matrices"] == pytest.approx((3 + 0.6) / 3 * none["layers' matrices"])
    assert full["attention, real lengths"] == pytest.approx(4 / 3 * none["attention, real lengths"])
    # One activation of 10 bf16 numbers for each of 8 tokens.
    assert full[kept] == pytest.approx(2 * 8 * 20)
    assert full[kept] < mlp[kept] < none[kept]


def test_fp8_halves_the_time_of_the_layers_products_only() -> None:
    bf16, fp8 = parts(), parts(precision="fp8")
    assert fp8["layers' matrices, FP8"] == pytest.approx(bf16["layers' matrices"] / 2)
    assert fp8["output layer, logits twice"] == bf16["output layer, logits twice"]
