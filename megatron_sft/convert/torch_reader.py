"""Chunks of a distributed checkpoint that only torch can read: compressed ones, and those not stored row by row."""

from math import prod
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.filesystem import FileSystemReader, _StorageInfo
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import LoadPlan, ReadItem
from torch.distributed.checkpoint.planner_helpers import create_read_items_for_chunk_list

from megatron_sft.convert.dist_metadata import Place
from megatron_sft.convert.dtypes import Dtype


def read_chunk(folder: Path, place: Place, shape: tuple[int, ...], dtype: Dtype) -> NDArray[Any]:
    """Read one stored chunk as a tensor of its own; returns the bits of its elements.

    Raises:
        OSError, RuntimeError, ValueError, pickle.UnpicklingError: when the file is damaged.
    """
    size = torch.Size(shape)
    target = torch.empty(size, dtype=getattr(torch, dtype.value))
    chunk = ChunkStorageMetadata(offsets=torch.Size([0] * len(size)), sizes=size)
    stored = TensorStorageMetadata(TensorProperties(dtype=target.dtype), size, [chunk])
    found = _StorageInfo(place.relative_path, place.offset, place.length, place.transform_descriptors)
    index = MetadataIndex("chunk", chunk.offsets)
    reader = FileSystemReader(folder)
    reader.set_up_storage_reader(Metadata({"chunk": stored}, storage_data={index: found}), is_coordinator=True)
    planner = _OneTensor(target)
    reader.read_data(LoadPlan(create_read_items_for_chunk_list("chunk", stored, [chunk])), planner).wait()
    if planner.num_elements != prod(shape):
        raise ValueError(f"{planner.num_elements} elements instead of {prod(shape)}")
    bits: NDArray[Any] = target.view(getattr(torch, dtype.bits.name)).numpy()
    return bits


class _OneTensor(DefaultLoadPlanner):
    """Where a load plan's only part goes."""

    def __init__(self, target: torch.Tensor) -> None:
        super().__init__()
        self._target = target
        self.num_elements = 0
        """Elements received."""

    def resolve_tensor(self, read_item: ReadItem) -> torch.Tensor:
        """The whole target."""
        return self._target

    def commit_tensor(self, read_item: ReadItem, tensor: torch.Tensor) -> None:
        """Count what has been filled."""
        self.num_elements += tensor.numel()
