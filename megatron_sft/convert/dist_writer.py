"""Write a model's tensors as a Megatron-Core distributed checkpoint, block by block: no model, no process group.

Keys, shapes and dtypes are those of a model that Megatron-Core saves itself: layers stacked, norms under the name of
the linear layer that follows them. A tensor is stored in blocks of rows, and a block is read when it is its turn, so
memory is bounded by a few blocks.
"""

import contextlib
import io
import json
import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.filesystem import FileSystem, FileSystemWriter
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, MetadataIndex, TensorProperties
from torch.distributed.checkpoint.planner import SavePlan, TensorWriteData, WriteItem, WriteItemType
from torch.distributed.checkpoint.state_dict_saver import save

from megatron_sft.convert.disk import PiecewiseFile, one_ahead
from megatron_sft.errors import ConversionError

BLOCK_BYTES = 64 << 20
"""Largest block of rows."""

_LAYER_NUMBER = re.compile(r"^decoder\.layers\.(\d+)\.")
_LINEAR_LAYERS = ("self_attention.linear_proj", "self_attention.linear_qkv", "mlp.linear_fc1", "mlp.linear_fc2")


@dataclass(frozen=True)
class OutTensor:
    """A Megatron tensor to write."""

    name: str
    """Full name, with the layer's number."""
    shape: tuple[int, ...]
    dtype: torch.dtype
    read: Callable[[int, int], torch.Tensor]
    """Gives rows from the first number up to the second one, in this dtype."""


def write_checkpoint(folder: Path, tensors: Sequence[OutTensor], num_layers: int) -> None:
    """Write the tensors, and what else Megatron-Core looks for, into the existing folder.

    Raises:
        ConversionError: when a tensor cannot be read.
        OSError: when the folder cannot be written; what is in it then is of no use.
    """
    blocks: dict[MetadataIndex, Callable[[], Any]] = {}
    items = []
    for tensor in tensors:
        for item, start, stop in _blocks(tensor, num_layers):
            items.append(item)
            blocks[item.index] = _reader(tensor, item, start, stop)
    for index in _extra_states(tensors, num_layers):
        items.append(WriteItem(index=index, type=WriteItemType.BYTE_IO))
        blocks[index] = _nothing
    try:
        # What belongs to no tensor: nothing, but its absence is an error.
        torch.save({}, folder / "common.pt")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "torch.distributed is disabled")
            writer = FileSystemWriter(folder)
            writer.fs = _PiecewiseFiles()
            save({}, storage_writer=writer, planner=_Planner(items, blocks), no_dist=True)
        backend = {"sharded_backend": "torch_dist", "sharded_backend_version": 1}
        (folder / "metadata.json").write_text(json.dumps(backend), encoding="utf-8")
    except CheckpointException as error:
        reasons = [reason for reason, _ in error.failures.values()]
        known = next((reason for reason in reasons if isinstance(reason, ConversionError | OSError)), None)
        if known is not None:
            raise known from error
        raise ConversionError(f"{folder}: cannot be written: {reasons[0]}; see to the disk") from error


class _PiecewiseFiles(FileSystem):
    """The file system, with files that are written in pieces."""

    @contextlib.contextmanager
    def create_stream(self, path: str | os.PathLike[str], mode: str) -> Iterator[io.IOBase]:
        """Open a file."""
        if mode != "wb":
            with super().create_stream(path, mode) as stream:
                yield stream
            return
        with PiecewiseFile(Path(path)) as file:
            try:
                yield file
            except RuntimeError as error:
                raise file.error or error from error


class _Planner(DefaultSavePlanner):
    """What to write, and where it comes from when its turn has come."""

    def __init__(self, items: list[WriteItem], blocks: dict[MetadataIndex, Callable[[], Any]]) -> None:
        super().__init__(flatten_state_dict=False)
        self._items = items
        # The writer takes what is no tensor first, and then all in the order of the plan.
        order = sorted(items, key=lambda item: item.type != WriteItemType.BYTE_IO)
        self._order = iter(order)
        self._contents = one_ahead(blocks[item.index]() for item in order)

    def create_local_plan(self) -> SavePlan:
        """All blocks, in their order."""
        self.plan = SavePlan(self._items)
        return self.plan

    def resolve_data(self, write_item: WriteItem) -> Any:
        """Read one block."""
        expected = next(self._order)
        assert expected.index == write_item.index, (expected.index, write_item.index)
        return next(self._contents)


def _blocks(tensor: OutTensor, num_layers: int) -> Iterator[tuple[WriteItem, int, int]]:
    """Each block of rows with its first row and the one after its last."""
    key = tensor.name
    stacked: tuple[int, ...] = ()
    match = _LAYER_NUMBER.match(tensor.name)
    if match is not None:
        key, stacked = f"decoder.layers.{tensor.name[match.end() :]}", (int(match[1]),)
    rows, rest = tensor.shape[0], tensor.shape[1:]
    per_block = max(1, BLOCK_BYTES // (torch.Size(rest).numel() * tensor.dtype.itemsize))
    for start in range(0, rows, per_block):
        stop = min(start + per_block, rows)
        chunk = ChunkStorageMetadata(
            offsets=torch.Size((*stacked, start, *[0] * len(rest))),
            sizes=torch.Size((*[1] * len(stacked), stop - start, *rest)),
        )
        data = TensorWriteData(
            chunk=chunk,
            properties=TensorProperties(dtype=tensor.dtype),
            size=torch.Size((*[num_layers] * len(stacked), *tensor.shape)),
        )
        index = MetadataIndex(key, chunk.offsets)
        yield WriteItem(index=index, type=WriteItemType.SHARD, tensor_data=data), start, stop


def _reader(tensor: OutTensor, item: WriteItem, start: int, stop: int) -> Callable[[], torch.Tensor]:
    assert item.tensor_data is not None
    sizes = item.tensor_data.chunk.sizes
    return lambda: tensor.read(start, stop).reshape(sizes)


def _extra_states(tensors: Sequence[OutTensor], num_layers: int) -> Iterator[MetadataIndex]:
    """Where Megatron-Core looks for what TransformerEngine has to keep of a linear layer: nothing in a new model."""
    for layer in range(num_layers):
        for name in _LINEAR_LAYERS:
            yield MetadataIndex(f"decoder.layers.{name}._extra_state/shard_{layer}_{num_layers}")
    if any(tensor.name == "output_layer.weight" for tensor in tensors):
        yield MetadataIndex("output_layer._extra_state/shard_0_1")


def _nothing() -> io.BytesIO:
    """How Megatron-Core stores None."""
    stored = io.BytesIO()
    torch.save([None], stored)
    return stored
