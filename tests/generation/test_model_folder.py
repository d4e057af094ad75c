"""Model folders as an engine needs them."""

from pathlib import Path

import pytest

from megatron_sft.errors import DataError
from megatron_sft.generation.model_folder import open_models, unique_names


def test_the_model_folder_tells_step_and_stop_ids(random_model: Path) -> None:
    model = open_models((random_model,))[0]
    assert (model.name, model.iteration, model.max_position_embeddings) == ("step-40", 40, 256)
    assert model.kv_bytes_per_token == 2 * 2 * 2 * 32 * 4
    assert len(model.tokenizer.stop_ids) == 2, "both of generation_config.json"


def test_names_are_as_short_as_they_can_be() -> None:
    assert unique_names([Path("/a/step-1"), Path("/a/step-2")]) == ["step-1", "step-2"]
    assert unique_names([Path("/a/hf"), Path("/b/hf")]) == ["a-hf", "b-hf"]


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path, random_model: Path) -> None:
    with pytest.raises(DataError, match=r"config\.json does not exist"):
        open_models((tmp_path,))
    with pytest.raises(DataError, match="given twice"):
        open_models((random_model, random_model))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(DataError, match=r"no \*\.safetensors"):
        open_models((tmp_path,))
