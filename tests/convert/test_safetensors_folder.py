"""Weight folders: every way of being incomplete is an error, and slices and written files are exact."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from megatron_sft.convert.dtypes import Dtype
from megatron_sft.convert.safetensors_folder import INDEX_FILE, SINGLE_FILE, SafetensorsFolder
from megatron_sft.errors import ConversionError

pytestmark = pytest.mark.trainer

A = torch.arange(12, dtype=torch.float32).reshape(4, 3)
B = torch.arange(5, dtype=torch.bfloat16)


def two_files(folder: Path, **weight_map: str) -> Path:
    save_file({"a": A}, folder / "model-00001-of-00002.safetensors")
    save_file({"b": B}, folder / "model-00002-of-00002.safetensors")
    mapped = weight_map or {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / INDEX_FILE).write_text(json.dumps({"weight_map": mapped}))
    return folder


def test_single_file_and_slices(tmp_path: Path) -> None:
    save_file({"a": A, "b": B}, tmp_path / SINGLE_FILE)
    with SafetensorsFolder(tmp_path) as folder:
        assert {name: info.shape for name, info in folder.tensors.items()} == {"a": (4, 3), "b": (5,)}
        assert folder.tensors["b"].dtype is Dtype.BFLOAT16
        assert torch.equal(folder.read("a"), A)
        assert torch.equal(folder.read("a", start=1, stop=3), A[1:3])
        assert torch.equal(folder.read("a", dim=1, start=1, stop=3), A[:, 1:3])


def test_indexed_files(tmp_path: Path) -> None:
    with SafetensorsFolder(two_files(tmp_path)) as folder:
        assert torch.equal(folder.read("a"), A)
        assert torch.equal(folder.read("b"), B)


def refusal(folder: Path) -> str:
    with pytest.raises(ConversionError) as error:
        SafetensorsFolder(folder)
    return str(error.value)


def test_missing_weights(tmp_path: Path) -> None:
    assert "found no weights" in refusal(tmp_path)
    two_files(tmp_path)
    (tmp_path / INDEX_FILE).unlink()
    assert INDEX_FILE in refusal(tmp_path)


def test_missing_file_of_an_index(tmp_path: Path) -> None:
    two_files(tmp_path)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    assert "files model-00002-of-00002.safetensors are missing" in refusal(tmp_path)


def test_file_left_over_from_another_model(tmp_path: Path) -> None:
    two_files(tmp_path)
    save_file({"c": A}, tmp_path / SINGLE_FILE)
    assert "files model.safetensors are not in the index" in refusal(tmp_path)


def test_index_that_disagrees_with_the_files(tmp_path: Path) -> None:
    first, second = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
    assert "disagree on 1 tensors, such as c" in refusal(two_files(tmp_path, a=first, b=second, c=second))
    assert "disagree on 2 tensors, such as a" in refusal(two_files(tmp_path, a=second, b=first))


def test_tensor_in_two_files(tmp_path: Path) -> None:
    two_files(tmp_path)
    save_file({"a": A, "b": B}, tmp_path / "model-00002-of-00002.safetensors")
    assert "tensor a is in model-00001-of-00002.safetensors as well" in refusal(tmp_path)


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"weight_map": ["a"]}', '{"weight_map": {"a": "../model.safetensors"}}']
)
def test_damaged_index(content: str, tmp_path: Path) -> None:
    two_files(tmp_path)
    (tmp_path / INDEX_FILE).write_text(content)
    assert "weight_map" in refusal(tmp_path)


@pytest.mark.parametrize("keep", [0, 4, 40, -1])
def test_truncated_file(keep: int, tmp_path: Path) -> None:
    save_file({"a": A}, tmp_path / SINGLE_FILE)
    content = (tmp_path / SINGLE_FILE).read_bytes()
    (tmp_path / SINGLE_FILE).write_bytes(content[:keep])
    assert "model.safetensors: not a complete safetensors file" in refusal(tmp_path)


def test_quantised_weights(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(3, dtype=torch.int8)}, tmp_path / SINGLE_FILE)
    assert "tensor a has dtype I8" in refusal(tmp_path)
