"""Archives of tensors: torch loads them, with its strict loader too, and describes the same tensor the same way."""

import io
import zipfile
import zlib
from pathlib import Path

import pytest
import torch

from megatron_sft.convert.dtypes import Dtype
from megatron_sft.convert.saved_tensor import data_offset
from megatron_sft.convert.tensor_archive import DATA_START, END_BYTES, saved_object, saved_tensor

pytestmark = pytest.mark.trainer


def archive_of(tensor: torch.Tensor, dtype: Dtype) -> bytes:
    content = tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes()
    memory = bytearray(b"x" * (DATA_START + len(content) + END_BYTES))
    memory[DATA_START : DATA_START + len(content)] = content
    length = saved_tensor(memoryview(memory), tuple(tensor.shape), dtype, len(content))
    return bytes(memory[:length])


@pytest.mark.parametrize("dtype", list(Dtype))
@pytest.mark.parametrize("shape", [(1, 3, 4), (7,), (100_000, 1), (1, 1 << 16)])
def test_torch_loads_it(dtype: Dtype, shape: tuple[int, ...]) -> None:
    tensor = torch.randn(shape).to(getattr(torch, dtype.value))
    archive = archive_of(tensor, dtype)
    found = torch.load(io.BytesIO(archive), weights_only=True)
    assert found.dtype == tensor.dtype
    assert found.stride() == tensor.stride()
    assert torch.equal(found, tensor)


def test_it_is_described_as_torch_does() -> None:
    tensor = torch.arange(12.0).reshape(1, 3, 4)
    saved = io.BytesIO()
    torch.save(tensor, saved)
    ours, theirs = zipfile.ZipFile(io.BytesIO(archive_of(tensor, Dtype.FLOAT32))), zipfile.ZipFile(saved)
    for name in ours.namelist():
        content = ours.read(name)  # compares checksums, too
        expected = theirs.read(name)
        if name != "archive/data.pkl":
            assert content == expected, name
    assert {name for name in theirs.namelist() if ".data/" not in name} == set(ours.namelist())
    assert zlib.crc32(tensor.numpy().tobytes()) == ours.getinfo("archive/data/0").CRC


def test_its_data_are_found(tmp_path: Path) -> None:
    tensor = torch.arange(12.0).reshape(3, 4)
    archive = archive_of(tensor, Dtype.FLOAT32)
    (tmp_path / "file").write_bytes(bytes(4096) + archive)
    with (tmp_path / "file").open("rb") as file:
        found = data_offset(file.fileno(), 4096, len(archive), (3, 4), Dtype.FLOAT32)
    assert found == (4096 + DATA_START, zlib.crc32(tensor.numpy().tobytes()))


@pytest.mark.parametrize("value", [{}, [None], {"a": [1, "b"]}])
def test_objects(value: object) -> None:
    assert torch.load(io.BytesIO(saved_object(value)), weights_only=True) == value
