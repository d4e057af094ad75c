"""Written weight folders are what the safetensors library reads, and split where they are large."""

import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from megatron_sft.convert import disk
from megatron_sft.convert.dtypes import Dtype
from megatron_sft.convert.safetensors_folder import INDEX_FILE, SINGLE_FILE, SafetensorsFolder
from megatron_sft.convert.safetensors_writer import Fill, plan_files, write_tensors

pytestmark = pytest.mark.trainer

A = torch.arange(12, dtype=torch.float32).reshape(4, 3)
B = torch.arange(5, dtype=torch.bfloat16)


def given(*tensors: torch.Tensor) -> Iterator[Fill]:
    for tensor in tensors:
        content = io.BytesIO(tensor.view(torch.uint8).numpy().tobytes())
        yield lambda view, content=content: content.readinto(view)  # type: ignore[misc]


def test_written_files_are_what_the_library_writes(tmp_path: Path) -> None:
    plan = plan_files([("a", (4, 3), Dtype.FLOAT32), ("b", (5,), Dtype.BFLOAT16)], max_bytes=1000)
    write_tensors(tmp_path, plan, given(A, B))
    assert sorted(path.name for path in tmp_path.iterdir()) == [SINGLE_FILE]
    found = load_file(tmp_path / SINGLE_FILE)
    assert found.keys() == {"a", "b"}
    assert torch.equal(found["a"], A)
    assert torch.equal(found["b"], B)
    assert found["b"].dtype == torch.bfloat16


def test_large_models_are_split_with_an_index(tmp_path: Path) -> None:
    tensors = [(name, (4, 3), Dtype.FLOAT32) for name in ("a", "b", "c", "d")]  # 48 bytes each
    plan = plan_files(tensors, max_bytes=100)
    assert [(info.name, info.file) for info in plan] == [
        ("a", "model-00001-of-00002.safetensors"),
        ("b", "model-00001-of-00002.safetensors"),
        ("c", "model-00002-of-00002.safetensors"),
        ("d", "model-00002-of-00002.safetensors"),
    ]
    write_tensors(tmp_path, plan, given(A, A + 1, A + 2, A + 3))
    assert json.loads((tmp_path / INDEX_FILE).read_text())["metadata"]["total_size"] == 4 * 48
    with SafetensorsFolder(tmp_path) as folder:
        assert torch.equal(folder.read("d"), A + 3)


def test_a_tensor_larger_than_a_file_gets_its_own() -> None:
    plan = plan_files([("a", (2,), Dtype.FLOAT32), ("b", (100,), Dtype.FLOAT32), ("c", (2,), Dtype.FLOAT32)], 16)
    assert [info.file[6:11] for info in plan] == ["00001", "00002", "00003"]


def test_tensors_larger_than_a_block(tmp_path: Path) -> None:
    numel = disk.BLOCK_BYTES // 4
    tensors = {
        f"t{i}": torch.randint(0, 1 << 30, (n,), dtype=torch.int32) for i, n in enumerate((3, numel, 5 * numel + 7))
    }
    plan = plan_files([(name, tuple(t.shape), Dtype.FLOAT32) for name, t in tensors.items()], max_bytes=1 << 40)
    digests = write_tensors(tmp_path, plan, given(*tensors.values()))
    found = load_file(tmp_path / SINGLE_FILE)
    assert all(torch.equal(found[name].view(torch.int32), tensor) for name, tensor in tensors.items())
    digest = hashlib.sha256((tmp_path / SINGLE_FILE).read_bytes()).hexdigest()
    assert digests == {SINGLE_FILE: digest}
    assert disk.sha256_on_disk(tmp_path / SINGLE_FILE) == digest
