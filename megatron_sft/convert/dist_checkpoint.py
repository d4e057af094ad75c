"""Read single tensors of a Megatron-Core distributed checkpoint: no model, no process group, no GPU.

Megatron-Core stores the transformer layers in one of two ways, and the gate and up projections in one of two:

    decoder.layers.mlp.linear_fc2.weight        [num_layers, ...]   all layers stacked
    decoder.layers.3.mlp.linear_fc2.weight      [...]               a tensor per layer
    ...linear_fc1.weight                        [2 x ffn, hidden]   gate above up
    ...linear_fc1.weight_w, ...linear_fc1.weight_v                  gate and up apart

Tensor-parallel shards are chunks of one global tensor, so a layer of the stacked form is read chunk by chunk too:
memory stays bounded by the tensor asked for and the largest stored chunk.
"""

import pickle
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, TensorStorageMetadata
from torch.distributed.checkpoint.planner import LoadPlan, ReadItem
from torch.distributed.checkpoint.planner_helpers import create_read_items_for_chunk_list

from megatron_sft.convert.disk import as_bytes, read_into
from megatron_sft.convert.saved_tensor import data_offset
from megatron_sft.errors import ConversionError

_MODEL_ROOTS = ("embedding.", "decoder.", "output_layer.")
_LAYER_NUMBER = re.compile(r"^(decoder\.layers)\.(\d+)\.")


@dataclass(frozen=True)
class StoredTensor:
    """Where a Megatron tensor lies in the checkpoint."""

    keys: tuple[str, ...]
    """One key, or two whose rows follow each other."""
    layer: int | None
    """Index into the first dimension of a stacked tensor."""
    shape: tuple[int, ...]
    """Of the tensor itself: keys joined, the stacking dimension gone."""
    dtype: torch.dtype


class DistCheckpoint:
    """The model tensors of one distributed checkpoint folder."""

    def __init__(self, folder: Path) -> None:
        """Read the checkpoint's metadata.

        Raises:
            ConversionError: when it is missing or damaged, a file is missing or too short, or some tensor's chunks do
                not cover it.
        """
        self.folder = folder
        self._reader = FileSystemReader(folder)
        try:
            metadata = self._reader.read_metadata()
        except (
            OSError,
            EOFError,
            pickle.UnpicklingError,
            AttributeError,
            ImportError,
            IndexError,
            ValueError,
        ) as error:
            raise ConversionError(f"{folder}: cannot read the distributed checkpoint's .metadata: {error!r}") from error
        self._reader.set_up_storage_reader(metadata, is_coordinator=True)
        _check_files(folder, metadata.storage_data)
        self._tensors = {
            key: stored
            for key, stored in metadata.state_dict_metadata.items()
            if isinstance(stored, TensorStorageMetadata) and key.startswith(_MODEL_ROOTS)
        }
        for key, stored in self._tensors.items():
            if sum(prod(chunk.sizes) for chunk in stored.chunks) != prod(stored.size):
                raise ConversionError(f"{folder}: the chunks of {key} do not cover its shape {tuple(stored.size)}")

    def model_keys(self) -> set[str]:
        """Keys of every model tensor; optimizer and other state is left out."""
        return set(self._tensors)

    def locate(self, names: Sequence[str], num_layers: int) -> StoredTensor:
        """Find a Megatron tensor by any of its spellings (full names with the layer's number).

        Raises:
            ConversionError: when no spelling is stored, or several are.
        """
        found = [stored for name in names if (stored := self._locate(name, num_layers)) is not None]
        if len(found) != 1:
            what = "is missing" if not found else f"is stored {len(found)} times"
            raise ConversionError(f"{self.folder}: tensor {' or '.join(names)} {what} in the checkpoint")
        return found[0]

    def read(self, stored: StoredTensor) -> torch.Tensor:
        """Read the whole tensor, in the dtype in which it is stored, on the CPU.

        Raises:
            ConversionError: when a file of the checkpoint is missing or damaged.
        """
        parts = [self._read(key, stored.layer) for key in stored.keys]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _locate(self, name: str, num_layers: int) -> StoredTensor | None:
        bases: list[tuple[str, int | None]] = [(name, None)]
        match = _LAYER_NUMBER.match(name)
        if match is not None:
            bases.append((f"{match[1]}.{name[match.end() :]}", int(match[2])))
        for base, layer in bases:
            for keys in ((base,), (f"{base}_w", f"{base}_v")):
                if all(key in self._tensors for key in keys):
                    return self._stored(keys, layer, num_layers)
        return None

    def _stored(self, keys: tuple[str, ...], layer: int | None, num_layers: int) -> StoredTensor:
        shapes = [tuple(self._tensors[key].size) for key in keys]
        if layer is not None:
            if any(shape[0] != num_layers for shape in shapes):
                raise ConversionError(
                    f"{self.folder}: {keys[0]} stacks {shapes[0][0]} layers, config.json has {num_layers}"
                )
            shapes = [shape[1:] for shape in shapes]
        rows = sum(shape[0] for shape in shapes)
        return StoredTensor(keys, layer, (rows, *shapes[0][1:]), self._tensors[keys[0]].properties.dtype)

    def _read(self, key: str, layer: int | None) -> torch.Tensor:
        stored = self._tensors[key]
        offsets, sizes = [0] * len(stored.size), list(stored.size)
        if layer is not None:
            offsets[0], sizes[0] = layer, 1
        region = ChunkStorageMetadata(offsets=torch.Size(offsets), sizes=torch.Size(sizes))
        target = torch.empty(sizes, dtype=stored.properties.dtype)
        items = create_read_items_for_chunk_list(key, stored, [region])
        planner = _OneTensor(target)
        try:
            sizes_at = {chunk.offsets: tuple(chunk.sizes) for chunk in stored.chunks}
            others = [item for item in items if not self._read_straight(item, sizes_at, planner)]
            self._reader.read_data(LoadPlan(others), planner).wait()
        except (OSError, EOFError, RuntimeError, ValueError, KeyError, pickle.UnpicklingError) as error:
            raise ConversionError(
                f"{self.folder}: cannot read {key}; a file of the checkpoint is missing, truncated or damaged: {error}"
            ) from error
        if planner.num_elements != target.numel():
            raise ConversionError(
                f"{self.folder}: the chunks of {key} hold {planner.num_elements} of its {target.numel()} elements"
            )
        return target if layer is None else target[0]

    def _read_straight(
        self, item: ReadItem, sizes_at: Mapping[torch.Size, tuple[int, ...]], planner: "_OneTensor"
    ) -> bool:
        """Read a part from its place in the file into its place in memory; False when it is no single run in both.

        `sizes_at` has the shape of each stored chunk by its offsets.
        """
        part, place = planner.resolve_tensor(item), self._reader.storage_data[item.storage_index]
        assert item.storage_index.offset is not None
        chunk = sizes_at[item.storage_index.offset]
        first = _first_element(chunk, item.storage_offsets, item.lengths)
        if first is None or not part.is_contiguous() or getattr(place, "transform_descriptors", None):
            return False
        with (self.folder / place.relative_path).open("rb") as file:
            found = data_offset(file.fileno(), place.offset, place.length, chunk, part.dtype)
            if found is None:
                return False
            read_into(file.fileno(), part, found[0] + first * part.dtype.itemsize)
        if tuple(item.lengths) == chunk and zlib.crc32(as_bytes(part)) != found[1]:
            # torch.load does not look at it. A file saved without checksums has a wrong one for `data.pkl` already, and
            # was left to torch above.
            raise ValueError(f"the checksum in {place.relative_path} is not that of the data")
        planner.commit_tensor(item, part)
        return True


def _first_element(whole: Sequence[int], offsets: Sequence[int], lengths: Sequence[int]) -> int | None:
    """Number of a region's first element in a tensor that lies row by row; None where the region has gaps there."""
    first, is_cut = 0, False
    for size, offset, length in zip(whole, offsets, lengths, strict=True):
        if is_cut and length != size:
            return None
        is_cut = is_cut or length > 1
        first = first * size + offset
    return first


def _check_files(folder: Path, places: Mapping[Any, Any]) -> None:
    """Every file must be there and reach as far as something lies in it: known before hours of copying."""
    ends: dict[str, int] = {}
    for place in places.values():
        ends[place.relative_path] = max(ends.get(place.relative_path, 0), place.offset + place.length)
    for name, end in sorted(ends.items()):
        path = folder / name
        size = path.stat().st_size if path.is_file() else None
        if size is None or size < end:
            found = (
                "is missing"
                if size is None
                else f"is truncated: {size} bytes, and data up to byte {end} should be there"
            )
            raise ConversionError(f"{path} {found}: use another checkpoint, or copy this one again")


class _OneTensor(DefaultLoadPlanner):
    """Where a load plan's parts go: one tensor, which stands for one region of a stored tensor."""

    def __init__(self, target: torch.Tensor) -> None:
        super().__init__()
        self._target = target
        self.num_elements = 0
        """Elements received."""

    def resolve_tensor(self, read_item: ReadItem) -> torch.Tensor:
        """The part of the target that `read_item` fills."""
        part = self._target
        for dim, (offset, length) in enumerate(zip(read_item.dest_offsets, read_item.lengths, strict=True)):
            part = part.narrow(dim, offset, length)
        return part

    def commit_tensor(self, read_item: ReadItem, tensor: torch.Tensor) -> None:
        """Count what has been filled."""
        self.num_elements += tensor.numel()
