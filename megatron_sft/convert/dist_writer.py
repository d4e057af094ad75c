"""Write a model's tensors as a Megatron-Core distributed checkpoint, block by block: no model, process group or torch.

Keys, shapes and dtypes are those of a model that Megatron-Core saves itself: layers stacked, norms under the name of
the linear layer that follows them. A tensor is stored in blocks of rows, each an archive of its own, and a block is
read straight to its place in the archive, so memory is bounded by a few blocks.
"""

import json
import mmap
import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from math import prod
from pathlib import Path

from megatron_sft.convert import dist_metadata as metadata
from megatron_sft.convert.disk import aligned, open_direct, write_at
from megatron_sft.convert.dtypes import Dtype
from megatron_sft.convert.tensor_archive import DATA_START, END_BYTES, saved_object, saved_tensor

BLOCK_BYTES = 16 << 20
"""Largest block of rows, where one row is not larger."""
DATA_FILE = "__0_0.distcp"

_NUM_BUFFERS = 3
_LAYER_NUMBER = re.compile(r"^decoder\.layers\.(\d+)\.")
_LINEAR_LAYERS = ("self_attention.linear_proj", "self_attention.linear_qkv", "mlp.linear_fc1", "mlp.linear_fc2")


@dataclass(frozen=True)
class OutTensor:
    """A Megatron tensor to write."""

    name: str
    """Full name, with the layer's number."""
    shape: tuple[int, ...]
    dtype: Dtype
    fill: Callable[[int, memoryview], None]
    """Fills memory with rows, in this dtype, from the number given on."""

    @property
    def row_bytes(self) -> int:
        """Size of a row."""
        return prod(self.shape[1:]) * self.dtype.num_bytes


@dataclass(frozen=True)
class _Block:
    """Some rows of a tensor, which are stored together."""

    tensor: OutTensor
    start: int
    """First row."""
    index: metadata.MetadataIndex
    sizes: metadata.Size

    @property
    def num_bytes(self) -> int:
        return prod(self.sizes) * self.tensor.dtype.num_bytes

    @property
    def room(self) -> int:
        """Bytes that its archive may take."""
        return aligned(DATA_START + self.num_bytes + END_BYTES)


def write_checkpoint(folder: Path, tensors: Sequence[OutTensor], num_layers: int) -> None:
    """Write the tensors, and what else Megatron-Core looks for, into the existing folder.

    Raises:
        ConversionError: when a tensor cannot be read.
        OSError: when the folder cannot be written; what is in it then is of no use.
    """
    # What belongs to no tensor: nothing, but its absence is an error.
    (folder / "common.pt").write_bytes(saved_object({}))
    blocks = [block for tensor in tensors for block in _blocks(tensor)]
    index = metadata.Metadata(_describe(blocks, num_layers), planner_data={}, storage_data={})
    descriptor = open_direct(folder / DATA_FILE, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        end = _write_extra_states(descriptor, index, list(_extra_states(tensors, num_layers)))
        _write_blocks(descriptor, index, blocks, end)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    (folder / metadata.FILE).write_bytes(metadata.metadata_bytes(index))
    backend = {"sharded_backend": "torch_dist", "sharded_backend_version": 1}
    (folder / "metadata.json").write_text(json.dumps(backend), encoding="utf-8")


def _blocks(tensor: OutTensor) -> Iterator[_Block]:
    key = tensor.name
    stacked: tuple[int, ...] = ()
    match = _LAYER_NUMBER.match(tensor.name)
    if match is not None:
        key, stacked = f"decoder.layers.{tensor.name[match.end() :]}", (int(match[1]),)
    rows, rest = tensor.shape[0], tensor.shape[1:]
    per_block = max(1, BLOCK_BYTES // tensor.row_bytes)
    for start in range(0, rows, per_block):
        offsets = metadata.Size((*stacked, start, *[0] * len(rest)))
        sizes = metadata.Size((*[1] * len(stacked), min(per_block, rows - start), *rest))
        yield _Block(tensor, start, metadata.MetadataIndex(key, offsets), sizes)


def _describe(
    blocks: Sequence[_Block], num_layers: int
) -> dict[str, metadata.TensorStorageMetadata | metadata.BytesStorageMetadata]:
    """What the index says of each key."""
    described: dict[str, metadata.TensorStorageMetadata] = {}
    for block in blocks:
        tensor, offsets = block.tensor, block.index.offset
        assert offsets is not None
        stacked = [num_layers] * (len(offsets) - len(tensor.shape))
        whole = metadata.TensorStorageMetadata(
            metadata.TensorProperties(tensor.dtype.value), metadata.Size((*stacked, *tensor.shape)), []
        )
        stored = described.setdefault(block.index.fqn, whole)
        stored.chunks.append(metadata.ChunkStorageMetadata(offsets, block.sizes))
    return dict(described)


def _write_blocks(descriptor: int, index: metadata.Metadata, blocks: Sequence[_Block], offset: int) -> None:
    """Write each block from byte `offset` of the file on, and put its place into the index."""
    room = max(block.room for block in blocks)
    buffers = [memoryview(mmap.mmap(-1, room)) for _ in range(_NUM_BUFFERS)]
    pending: list[Future[None] | None] = [None] * _NUM_BUFFERS
    # While this thread reads a block, one computes the checksum of the one before, and another writes.
    with ThreadPoolExecutor(max_workers=2) as aside:
        for count, block in enumerate(blocks):
            number = count % _NUM_BUFFERS
            if (before := pending[number]) is not None:
                before.result()
            archive = buffers[number][: block.room]
            block.tensor.fill(block.start, archive[DATA_START : DATA_START + block.num_bytes])
            pending[number] = aside.submit(_write_block, descriptor, index, archive, block, offset)
            offset += block.room
        for future in pending:
            if future is not None:
                future.result()


def _write_block(descriptor: int, index: metadata.Metadata, archive: memoryview, block: _Block, offset: int) -> None:
    length = saved_tensor(archive, block.sizes, block.tensor.dtype, block.num_bytes)
    archive[length:] = bytes(len(archive) - length)
    write_at(descriptor, archive, offset)
    index.storage_data[block.index] = metadata.Place(DATA_FILE, offset, length)


def _write_extra_states(descriptor: int, index: metadata.Metadata, names: Sequence[str]) -> int:
    """Write them at the beginning of the file; returns where it goes on."""
    content = saved_object([None])  # how Megatron-Core stores None
    for number, name in enumerate(names):
        index.state_dict_metadata[name] = metadata.BytesStorageMetadata()
        place = metadata.Place(DATA_FILE, number * len(content), len(content))
        index.storage_data[metadata.MetadataIndex(name)] = place
    end = aligned(len(names) * len(content))
    memory = mmap.mmap(-1, end)
    memory.write(content * len(names))
    write_at(descriptor, memoryview(memory), 0)
    return end


def _extra_states(tensors: Sequence[OutTensor], num_layers: int) -> Iterator[str]:
    """Where Megatron-Core looks for what TransformerEngine has to keep of a linear layer: nothing in a new model."""
    for layer in range(num_layers):
        for name in _LINEAR_LAYERS:
            yield f"decoder.layers.{name}._extra_state/shard_{layer}_{num_layers}"
    if any(tensor.name == "output_layer.weight" for tensor in tensors):
        yield "output_layer._extra_state/shard_0_1"
