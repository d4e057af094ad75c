"""Data of saved tensors are found where they are, and only those that lie row by row."""

import io
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from megatron_sft.convert.dist_checkpoint import DistCheckpoint
from megatron_sft.convert.dtypes import Dtype
from megatron_sft.convert.saved_tensor import data_offset
from megatron_sft.convert.stored_chunk import first_element

pytestmark = pytest.mark.trainer

A = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4)


def offset_of(value: object, path: Path, shape: tuple[int, ...], dtype: Dtype) -> tuple[int, int] | None:
    """Saved in the middle of a file, as in a checkpoint."""
    saved = io.BytesIO()
    torch.save(value, saved)
    content = saved.getvalue()
    path.write_bytes(b"PK before" * 30 + content + b"after" * 100)
    with path.open("rb") as file:
        return data_offset(file.fileno(), 270, len(content), shape, dtype)


@pytest.mark.parametrize("dtype", list(Dtype))
def test_the_data_begin_there(dtype: Dtype, tmp_path: Path) -> None:
    in_torch = getattr(torch, dtype.value)
    tensor, path = A.to(in_torch), tmp_path / "file"
    found = offset_of(tensor, path, (2, 3, 4), dtype)
    assert found is not None
    content = bytearray(path.read_bytes()[found[0] : found[0] + tensor.nbytes])
    assert zlib.crc32(content) == found[1]
    assert torch.equal(torch.frombuffer(content, dtype=in_torch).reshape(2, 3, 4), tensor)


def test_others_are_left_to_torch(tmp_path: Path) -> None:
    path, shape = tmp_path / "file", (2, 3, 4)
    for other in (A.transpose(0, 2), A[:, :, :2], [A], {"a": 1}, None, A.view(torch.int32)):
        assert offset_of(other, path, shape, Dtype.FLOAT32) is None
    assert offset_of(A, path, (24,), Dtype.FLOAT32) is None
    assert offset_of(A, path, shape, Dtype.BFLOAT16) is None
    path.write_bytes(bytes(1000))
    with path.open("rb") as file:
        assert data_offset(file.fileno(), 270, 500, shape, Dtype.FLOAT32) is None


@pytest.mark.parametrize(
    ("offsets", "lengths"),
    [((0, 0, 0), (2, 3, 4)), ((1, 0, 0), (1, 3, 4)), ((1, 1, 0), (1, 2, 4)), ((1, 2, 1), (1, 1, 3))],
)
def test_regions_in_one_run(offsets: tuple[int, ...], lengths: tuple[int, ...]) -> None:
    region = A
    for dim, (offset, length) in enumerate(zip(offsets, lengths, strict=True)):
        region = region.narrow(dim, offset, length)
    first = first_element((2, 3, 4), offsets, lengths)
    assert first is not None
    assert torch.equal(A.view(-1)[first : first + region.numel()], region.reshape(-1))


def test_regions_with_gaps() -> None:
    assert first_element((2, 3, 4), (0, 0, 0), (2, 3, 3)) is None
    assert first_element((2, 3, 4), (0, 1, 0), (2, 2, 4)) is None
    assert first_element((2, 3, 4), (0, 0, 1), (1, 3, 2)) is None


def test_a_transposed_tensor_in_a_checkpoint(
    model_folder: Path, write_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    tensor = torch.arange(12.0).reshape(3, 4).t()
    save = write_checkpoint(model_folder, {"decoder.layers.0.x.weight": tensor, "decoder.layers.0.y.weight": A[0]})
    checkpoint = DistCheckpoint(save / "iter_0000010")
    for name, expected in (("x", tensor), ("y", A[0])):
        found = checkpoint.read(checkpoint.locate([f"decoder.layers.0.{name}.weight"], 1))
        assert torch.equal(torch.from_numpy(found).view(torch.float32), expected)
