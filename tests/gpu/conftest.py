"""Tests that need a GPU with TransformerEngine; elsewhere they are skipped, each with the reason."""

import pytest

from tests.train.conftest import train, world  # noqa: F401
from tests.train.harness import save_model


def missing() -> str | None:
    """Why the tests cannot run here; None where they can."""
    import torch

    if not torch.cuda.is_available():
        return "needs a GPU: torch sees none"
    from megatron_sft import backends
    from megatron_sft.model.gpt import has_transformer_engine

    if not has_transformer_engine():
        found = backends.transformer_engine_version()
        return f"needs TransformerEngine in a version that Megatron-Core knows: found {found or 'none'}"
    if torch.cuda.get_device_capability() < (9, 0):
        return f"needs Hopper or newer: found {torch.cuda.get_device_name()}"
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark and, where something is missing, skip the tests of this folder."""
    here = [item for item in items if "tests/gpu/" in item.path.as_posix()]
    if not here:
        return
    reason = missing()
    for item in here:
        item.add_marker(pytest.mark.gpu)
        if reason:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def gpu_model(world, tmp_path_factory):  # noqa: F811
    """A random Qwen3 whose sizes FP8 can multiply and fused attention knows."""
    sizes = {"hidden_size": 256, "head_dim": 64, "intermediate_size": 512, "vocab_size": 384, "num_attention_heads": 4}
    return save_model(tmp_path_factory.mktemp("gpu_model"), world.tokenizer, **sizes, initializer_range=0.04)
