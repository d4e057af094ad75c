"""Import of a Hugging Face folder as a checkpoint."""

from pathlib import Path

import pytest

from megatron_sft.convert.from_hf import import_model
from megatron_sft.errors import ConversionError
from megatron_sft.model import checkpoint_dir
from tests.convert.models import edit_json

pytestmark = pytest.mark.trainer


def test_checkpoint_is_complete_and_carries_the_assets(model_folder: Path, tmp_path: Path) -> None:
    folder = import_model(model_folder, tmp_path / "save")
    assert folder == checkpoint_dir.resolve(tmp_path / "save") == tmp_path / "save" / "iter_0000000"
    state = checkpoint_dir.read_run_state(folder)
    assert (state["iteration"], state["stop_token_ids"], state["dtype"]) == (0, [1], "float32")
    assert {"config.json", "tokenizer.json", "generation_config.json"} <= {p.name for p in (folder / "hf").iterdir()}
    with pytest.raises(ConversionError, match="already holds checkpoints"):
        import_model(model_folder, tmp_path / "save")


def test_incomplete_folders_leave_nothing(model_copy: Path, tmp_path: Path) -> None:
    edit_json(model_copy / "config.json", num_hidden_layers=5, layer_types=None)
    with pytest.raises(ConversionError, match=r"missing model\.layers\.4\."):
        import_model(model_copy, tmp_path / "save")
    edit_json(model_copy / "config.json", num_hidden_layers=4)
    (model_copy / "tokenizer.json").unlink()
    with pytest.raises(ConversionError, match=r"tokenizer\.json: missing"):
        import_model(model_copy, tmp_path / "save")
    assert not list((tmp_path / "save").glob("*"))
