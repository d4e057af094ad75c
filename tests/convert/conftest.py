"""Models and checkpoints on disk for the conversion tests."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed import checkpoint as dcp

from megatron_sft.convert import assets
from megatron_sft.model import checkpoint_dir
from tests.convert.models import save_model

MODELS: dict[str, dict[str, Any]] = {
    "tied": {"tie_word_embeddings": True},
    "untied": {"tie_word_embeddings": False},
    "qwen2": {"family": "qwen2"},
    "llama": {"family": "llama"},
}


@pytest.fixture(scope="session", params=MODELS)
def any_model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("hf"), **MODELS[request.param])


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untied model, not to be changed."""
    return save_model(tmp_path_factory.mktemp("hf"), tie_word_embeddings=False)


@pytest.fixture
def model_copy(model_folder: Path, tmp_path: Path) -> Path:
    """The untied model, to be spoiled."""
    return Path(shutil.copytree(model_folder, tmp_path / "model"))


@pytest.fixture
def write_checkpoint(tmp_path: Path) -> Callable[..., Path]:
    """Writes a save folder with one checkpoint straight through torch, so that any fault can be put into it."""

    def write(model: Path, tensors: dict[str, torch.Tensor], *, iteration: int = 10, **run_state: Any) -> Path:
        save = tmp_path / "save"
        partial = checkpoint_dir.incomplete_dir(save, iteration)
        dcp.save(tensors, checkpoint_id=partial, no_dist=True)
        collected = tmp_path / "collected"
        collected.mkdir(exist_ok=True)
        assets.collect(model, collected)
        checkpoint_dir.finish(partial, {"iteration": iteration, "stop_token_ids": [1], **run_state}, collected)
        return save

    return write
