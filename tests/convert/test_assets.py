"""Config, generation config and tokenizer of an export."""

import gzip
import shutil
from pathlib import Path

import pytest

from megatron_sft.convert import assets
from megatron_sft.convert.dtypes import Dtype
from megatron_sft.errors import ConversionError
from megatron_sft.model.geometry import ModelGeometry
from tests.convert.models import CONFIG, edit_json

pytestmark = pytest.mark.trainer


def test_collects_tokenizer_and_configs_but_no_weights(model_folder: Path, tmp_path: Path) -> None:
    assets.collect(model_folder, tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"} <= names
    assert not [name for name in names if name.endswith(".safetensors")]


def test_packed_tokenizer_is_unpacked(model_copy: Path, tmp_path: Path) -> None:
    original = (model_copy / "tokenizer.json").read_bytes()
    (model_copy / "tokenizer.json.gz").write_bytes(gzip.compress(original))
    (model_copy / "tokenizer.json").unlink()
    target = tmp_path / "target"
    target.mkdir()
    assets.collect(model_copy, target)
    assert (target / "tokenizer.json").read_bytes() == original


def test_own_code_goes_along_if_the_config_names_it(model_copy: Path, tmp_path: Path) -> None:
    code, plain, with_code = model_copy / "modeling_own.py", tmp_path / "plain", tmp_path / "with code"
    code.write_text("raise RuntimeError\n")
    for folder, auto_map in ((plain, None), (with_code, {"AutoModel": "modeling_own.Model"})):
        edit_json(model_copy / "config.json", auto_map=auto_map)
        folder.mkdir()
        assets.collect(model_copy, folder)
    assert not list(plain.glob("*.py"))
    assert [path.name for path in with_code.glob("*.py")] == ["modeling_own.py"]


def test_a_sentencepiece_model_is_a_tokenizer(shared_data: Path, model_copy: Path, tmp_path: Path) -> None:
    shutil.copy(shared_data / "tokenizers" / "internlm2" / "tokenizer.model", model_copy)
    (model_copy / "tokenizer.json").unlink()
    edit_json(model_copy / "tokenizer_config.json", eos_token="</s>")
    assets.collect(model_copy, tmp_path)
    assert (tmp_path / "tokenizer.model").read_bytes() == (model_copy / "tokenizer.model").read_bytes()
    assert assets.tokenizer_eos_id(tmp_path) == 2


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_incomplete_tokenizer(name: str, model_copy: Path, tmp_path: Path) -> None:
    (model_copy / name).unlink()
    (tmp_path / "target").mkdir()
    with pytest.raises(ConversionError, match=f"{name}: missing"):
        assets.collect(model_copy, tmp_path / "target")


def test_no_chat_template(model_copy: Path, tmp_path: Path) -> None:
    (model_copy / "chat_template.jinja").unlink()
    (tmp_path / "target").mkdir()
    with pytest.raises(ConversionError, match="no chat template"):
        assets.collect(model_copy, tmp_path / "target")
    edit_json(model_copy / "tokenizer_config.json", chat_template="{{ messages }}")
    assets.collect(model_copy, tmp_path / "target")


def test_config_keeps_everything_but_the_dtype() -> None:
    old = {**CONFIG, "torch_dtype": "float32", "custom": 1}
    exported = assets.export_config(ModelGeometry.from_hf_config(old), Dtype.BFLOAT16)
    assert exported == {**old, "torch_dtype": "bfloat16"}
    both = {**old, "dtype": "float16"}
    assert assets.export_config(ModelGeometry.from_hf_config(both), Dtype.FLOAT32)["dtype"] == "float32"
    bare = {name: value for name, value in CONFIG.items() if name != "architectures"}
    exported = assets.export_config(ModelGeometry.from_hf_config(bare), Dtype.FLOAT32)
    assert exported == {**CONFIG, "torch_dtype": "float32"}


def test_all_stop_ids(model_copy: Path) -> None:
    # generation config 3, training 5 and 1, tokenizer 1 (<|im_end|>), config 4
    merged = assets.export_generation_config(model_copy, [5, 1], 101)
    assert merged["eos_token_id"] == [3, 5, 1, 4]
    assert merged["temperature"] == 0.6
    edit_json(model_copy / "generation_config.json", eos_token_id=[2, 3], _from_model_config=True)
    merged = assets.export_generation_config(model_copy, [], 101)
    assert merged["eos_token_id"] == [2, 3, 1, 4]
    assert "_from_model_config" not in merged
    (model_copy / "generation_config.json").unlink()
    assert assets.export_generation_config(model_copy, [5], 101) == {"eos_token_id": [5, 1, 4]}


def test_stop_ids_must_exist(model_copy: Path) -> None:
    with pytest.raises(ConversionError, match=r"stop ids \[3, 200, 1, 4\].*from 0 to 100"):
        assets.export_generation_config(model_copy, [200], 101)
    (model_copy / "generation_config.json").unlink()
    edit_json(model_copy / "tokenizer_config.json", eos_token=None)
    edit_json(model_copy / "config.json", eos_token_id=None)
    with pytest.raises(ConversionError, match=r"stop ids \[\]"):
        assets.export_generation_config(model_copy, [], 101)


def test_eos_of_the_tokenizer(model_copy: Path) -> None:
    assert assets.tokenizer_eos_id(model_copy) == 1
    edit_json(model_copy / "tokenizer_config.json", eos_token={"content": "<|endoftext|>"})
    assert assets.tokenizer_eos_id(model_copy) == 2
    edit_json(model_copy / "tokenizer_config.json", eos_token="<nowhere>")
    with pytest.raises(ConversionError, match=r"'<nowhere>'.*not in the vocabulary"):
        assets.tokenizer_eos_id(model_copy)
