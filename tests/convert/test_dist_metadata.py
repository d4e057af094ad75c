"""`.metadata` files: torch reads ours as its own, we read torch's, and nothing in them is run."""

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint import filesystem
from torch.distributed.checkpoint import metadata as theirs

from megatron_sft.convert import dist_metadata as ours
from megatron_sft.convert.dtypes import Dtype
from megatron_sft.errors import ConversionError

pytestmark = pytest.mark.trainer


def in_torch(dtype: torch.dtype) -> theirs.Metadata:
    chunks = [
        theirs.ChunkStorageMetadata(torch.Size([0, 0]), torch.Size([1, 5])),
        theirs.ChunkStorageMetadata(torch.Size([1, 0]), torch.Size([2, 5])),
    ]
    stored = theirs.TensorStorageMetadata(theirs.TensorProperties(dtype=dtype), torch.Size([3, 5]), chunks)
    return theirs.Metadata(
        {"a.weight": stored, "extra": theirs.BytesStorageMetadata()},
        planner_data={},
        storage_data={
            theirs.MetadataIndex("a.weight", [0, 0]): filesystem._StorageInfo("__0_0.distcp", 0, 900),
            theirs.MetadataIndex("a.weight", [1, 0]): filesystem._StorageInfo("__1_0.distcp", 7, 1000),
            theirs.MetadataIndex("extra"): filesystem._StorageInfo("__1_0.distcp", 2000, 10),
        },
        version="1.0.0",
    )


def here(dtype: Dtype) -> ours.Metadata:
    chunks = [
        ours.ChunkStorageMetadata(ours.Size([0, 0]), ours.Size([1, 5])),
        ours.ChunkStorageMetadata(ours.Size([1, 0]), ours.Size([2, 5])),
    ]
    stored = ours.TensorStorageMetadata(ours.TensorProperties(dtype.value), ours.Size([3, 5]), chunks)
    return ours.Metadata(
        {"a.weight": stored, "extra": ours.BytesStorageMetadata()},
        planner_data={},
        storage_data={
            ours.MetadataIndex("a.weight", ours.Size([0, 0])): ours.Place("__0_0.distcp", 0, 900),
            ours.MetadataIndex("a.weight", ours.Size([1, 0])): ours.Place("__1_0.distcp", 7, 1000),
            ours.MetadataIndex("extra"): ours.Place("__1_0.distcp", 2000, 10),
        },
    )


@pytest.mark.parametrize("dtype", list(Dtype))
def test_torch_reads_it_as_its_own(dtype: Dtype) -> None:
    found = pickle.loads(ours.metadata_bytes(here(dtype)))
    expected = in_torch(getattr(torch, dtype.value))
    assert found == expected
    assert list(found.storage_data) == list(expected.storage_data)
    assert type(found.state_dict_metadata["a.weight"].size) is torch.Size


@pytest.mark.parametrize("dtype", list(Dtype))
def test_torchs_is_read(dtype: Dtype, tmp_path: Path) -> None:
    for protocol in (2, 4, 5):
        content = pickle.dumps(in_torch(getattr(torch, dtype.value)), protocol=protocol)
        (tmp_path / ".metadata").write_bytes(content)
        index = ours.read_index(tmp_path)
        (stored,) = index.tensors.values()
        assert (list(index.tensors), stored.properties.dtype, stored.size) == (["a.weight"], dtype.value, (3, 5))
        assert [(chunk.offsets, chunk.sizes) for chunk in stored.chunks] == [((0, 0), (1, 5)), ((1, 0), (2, 5))]
        assert index.places["a.weight", (1, 0)] == ours.Place("__1_0.distcp", 7, 1000)
        assert index.places["extra", None].offset == 2000


class _Runs:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_nothing_is_run(tmp_path: Path) -> None:
    metadata = in_torch(torch.float32)
    # What other programs add, and what somebody malicious might.
    metadata.planner_data = {"x": _Runs(tmp_path / "made"), "odd": {1, 2}, "plan": [filesystem._StoragePrefix("p")]}
    (tmp_path / ".metadata").write_bytes(pickle.dumps(metadata))
    assert list(ours.read_index(tmp_path).tensors) == ["a.weight"]
    assert not (tmp_path / "made").exists()
    pickle.loads(pickle.dumps(metadata))
    assert (tmp_path / "made").exists()


def damaged() -> dict[str, bytes]:
    whole = ours.metadata_bytes(here(Dtype.FLOAT32))
    outside, no_size, no_place = (in_torch(torch.float32) for _ in range(3))
    outside.storage_data = {theirs.MetadataIndex("extra"): filesystem._StorageInfo("../x", 0, 1)}
    no_size.state_dict_metadata["a.weight"].size = [3, 5]  # type: ignore[union-attr]
    no_place.storage_data = {theirs.MetadataIndex("extra"): "here"}
    contents = {name: pickle.dumps(value) for name, value in locals().items() if isinstance(value, theirs.Metadata)}
    return contents | {"empty": b"", "cut": whole[: len(whole) // 2], "else": pickle.dumps([1]), "text": b"hello"}


@pytest.mark.parametrize("name", ["outside", "no_size", "no_place", "empty", "cut", "else", "text", "missing"])
def test_damage(name: str, tmp_path: Path) -> None:
    if name != "missing":
        (tmp_path / ".metadata").write_bytes(damaged()[name])
    with pytest.raises(ConversionError, match=r"cannot read the distributed checkpoint's \.metadata"):
        ours.read_index(tmp_path)
