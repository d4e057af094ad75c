"""Rotary settings: the spellings of transformers 4 and 5, what transformers assumes, and what is refused."""

import math
from typing import Any

import pytest

from megatron_sft.errors import ConfigError
from megatron_sft.model.rotary_config import (
    ROPE_TYPES,
    DynamicScaling,
    LinearScaling,
    Llama3Scaling,
    RotaryScaling,
    YarnScaling,
    read_rotary,
)

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}


def read(**config: Any) -> tuple[float, RotaryScaling | None]:
    settings = {"max_position_embeddings": 4096, **config}
    return read_rotary(settings, "config.json", kinds=ROPE_TYPES, default_base=None)


def scaling_of(**settings: Any) -> RotaryScaling | None:
    return read(rope_theta=1e4, rope_scaling=settings)[1]


@pytest.mark.parametrize("settings", [LLAMA3, YARN, {"rope_type": "linear", "factor": 2.0}])
def test_both_spellings(settings: dict[str, Any]) -> None:
    old = read(rope_theta=5e5, rope_scaling=settings)
    legacy = {name: value for name, value in settings.items() if name != "rope_type"} | {"type": settings["rope_type"]}
    assert old == read(rope_theta=5e5, rope_scaling=legacy)
    assert old == read(rope_parameters=settings | {"rope_theta": 5e5})
    assert old == read(rope_parameters=settings | {"rope_theta": 5e5}, rope_scaling=settings)
    assert old[0] == 5e5
    assert old[1] is not None


def test_plain() -> None:
    expected = (5e6, None)
    assert read(rope_theta=5e6) == read(rope_theta=5e6, rope_scaling=None) == expected
    assert read(rope_theta=5e6, rope_scaling={"type": "default"}) == expected
    assert read(rope_parameters={"rope_theta": 5e6, "rope_type": "default"}) == expected
    assert read_rotary({}, "config.json", kinds=(), default_base=1e4) == (1e4, None)


def test_values() -> None:
    assert scaling_of(type="linear", factor=2) == LinearScaling(factor=2.0)
    assert scaling_of(type="dynamic", factor=2.0) == DynamicScaling(factor=2.0)
    assert scaling_of(**LLAMA3) == Llama3Scaling(
        factor=32.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=8192
    )
    assert scaling_of(**YARN) == YarnScaling(
        factor=4.0,
        original_max_position_embeddings=32768,
        beta_fast=32.0,
        beta_slow=1.0,
        truncate=True,
        attention_factor=0.1 * math.log(4.0) + 1.0,
    )


def test_without_an_original_length_it_is_that_of_the_model() -> None:
    scaling = scaling_of(rope_type="yarn", factor=4.0)
    assert isinstance(scaling, YarnScaling)
    assert scaling.original_max_position_embeddings == 4096
    outside = read(rope_theta=1e4, original_max_position_embeddings=2048, rope_scaling={"type": "yarn", "factor": 2.0})
    assert isinstance(outside[1], YarnScaling)
    assert outside[1].original_max_position_embeddings == 2048


@pytest.mark.parametrize(
    ("settings", "factor"),
    [
        ({"attention_factor": 1.5}, 1.5),
        ({"mscale": 2.0, "mscale_all_dim": 1.0}, (0.2 * math.log(4.0) + 1.0) / (0.1 * math.log(4.0) + 1.0)),
        ({"mscale": 2.0}, 0.1 * math.log(4.0) + 1.0),
        ({"mscale": 2.0, "mscale_all_dim": 0}, 0.1 * math.log(4.0) + 1.0),
        ({"factor": 0.5}, 1.0),
    ],
)
def test_attention_factor_of_yarn(settings: dict[str, Any], factor: float) -> None:
    scaling = scaling_of(**YARN | settings)
    assert isinstance(scaling, YarnScaling)
    assert scaling.attention_factor == pytest.approx(factor, rel=1e-12)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({}, ["rope_theta"]),
        ({"rope_scaling": {"type": "longrope", "factor": 2.0}}, ["rope_scaling", "longrope", "llama3, yarn", "null"]),
        ({"rope_parameters": {"rope_type": "su", "factor": 2.0}}, ["rope_parameters", "'su'"]),
        ({"rope_scaling": "linear"}, ["rope_scaling", "'linear'"]),
        ({"rope_scaling": {"type": "linear"}}, ["rope_scaling", "factor", "missing"]),
        ({"rope_scaling": {"type": "linear", "factor": 0}}, ["factor", "0"]),
        ({"rope_scaling": {"type": "linear", "factor": 2.0, "mscale": 1.0}}, ["linear", "mscale"]),
        ({"rope_scaling": {"type": "default", "factor": 2.0}}, ["default", "factor", "none"]),
        ({"rope_scaling": {"type": "mrope", "rope_type": "default"}}, ["rope_type='default'", "type='mrope'"]),
        ({"rope_scaling": {"type": "default", "partial_rotary_factor": 0.5}}, ["partial_rotary_factor", "0.5"]),
        ({"rope_scaling": LLAMA3 | {"low_freq_factor": 4.0}}, ["low_freq_factor=4", "high_freq_factor=4"]),
        ({"rope_scaling": YARN | {"beta_slow": 64}}, ["beta_slow=64", "beta_fast=32"]),
        ({"rope_scaling": YARN | {"truncate": 1}}, ["truncate", "1"]),
        ({"rope_scaling": YARN, "original_max_position_embeddings": 8}, ["original_max_position_embeddings=32768"]),
        ({"rope_scaling": YARN, "rope_parameters": LLAMA3}, ["contradict"]),
        ({"rope_theta": 1e4, "rope_parameters": {"rope_theta": 1e6}}, ["contradicting", "10000", "1e+06"]),
    ],
)
def test_refusals(config: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        read(**({"rope_theta": 1e4} if config else {}) | config)
    assert "config.json" in str(error.value)
    for word in words:
        assert word in str(error.value)
