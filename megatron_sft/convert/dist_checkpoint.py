"""Read single tensors of a Megatron-Core distributed checkpoint: no model, no process group, no GPU, and no torch.

Megatron-Core stores the transformer layers in one of two ways, and the gate and up projections in one of two:

    decoder.layers.mlp.linear_fc2.weight        [num_layers, ...]   all layers stacked
    decoder.layers.3.mlp.linear_fc2.weight      [...]               a tensor per layer
    ...linear_fc1.weight                        [2 x ffn, hidden]   gate above up
    ...linear_fc1.weight_w, ...linear_fc1.weight_v                  gate and up apart

Tensor-parallel shards are chunks of one global tensor. Chunks of whole rows are read straight into their place, one
after the other; with others, memory is bounded by the tensor asked for and the largest stored chunk.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from megatron_sft.convert.dist_metadata import Place, TensorStorageMetadata, read_index
from megatron_sft.convert.dtypes import Dtype, as_bytes
from megatron_sft.convert.stored_chunk import Region, StoredChunk
from megatron_sft.errors import ConversionError

_MODEL_ROOTS = ("embedding.", "decoder.", "output_layer.")
_LAYER_NUMBER = re.compile(r"^(decoder\.layers)\.(\d+)\.")
_SKIPPED_BYTES = 1 << 20


@dataclass(frozen=True)
class StoredTensor:
    """Where a Megatron tensor lies in the checkpoint."""

    keys: tuple[str, ...]
    """One key, or two whose rows follow each other."""
    layer: int | None
    """Index into the first dimension of a stacked tensor."""
    shape: tuple[int, ...]
    """Of the tensor itself: keys joined, the stacking dimension gone."""
    dtype: Dtype


class DistCheckpoint:
    """The model tensors of one distributed checkpoint folder."""

    def __init__(self, folder: Path) -> None:
        """Read the checkpoint's metadata.

        Raises:
            ConversionError: when it is missing or damaged, a file is missing or too short, some tensor's chunks do not
                cover it, or it has a dtype that is no weight's.
        """
        self.folder = folder
        index = read_index(folder)
        self._places = index.places
        _check_files(folder, index.places.values())
        self._tensors = {key: stored for key, stored in index.tensors.items() if key.startswith(_MODEL_ROOTS)}
        dtypes = {dtype.value for dtype in Dtype}
        for key, stored in self._tensors.items():
            if sum(prod(chunk.sizes) for chunk in stored.chunks) != prod(stored.size):
                raise ConversionError(f"{folder}: the chunks of {key} do not cover its shape {tuple(stored.size)}")
            if stored.properties.dtype not in dtypes:
                raise ConversionError(f"{folder}: {key} has a dtype that is none of {', '.join(sorted(dtypes))}")

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

    def open(self, stored: StoredTensor) -> "TensorReader":
        """The bytes of a tensor, row after row, in the dtype in which it is stored."""
        return TensorReader(self.folder, [self._part(key, stored.layer) for key in stored.keys])

    def read(self, stored: StoredTensor) -> NDArray[Any]:
        """Read the whole tensor; returns the bits of its elements.

        Raises:
            ConversionError: when a file of the checkpoint is missing or damaged.
        """
        whole = np.empty(stored.shape, stored.dtype.bits)
        self.open(stored).fill(as_bytes(whole))
        return whole

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
        return StoredTensor(keys, layer, (rows, *shapes[0][1:]), Dtype(self._tensors[keys[0]].properties.dtype))

    def _part(self, key: str, layer: int | None) -> "_Part":
        stored = self._tensors[key]
        offsets, sizes = [0] * len(stored.size), list(stored.size)
        if layer is not None:
            offsets[0], sizes[0] = layer, 1
        region = Region(tuple(offsets), tuple(sizes))
        return _Part(key, region, Dtype(stored.properties.dtype), self._chunks(key, stored, region))

    def _chunks(self, key: str, stored: TensorStorageMetadata, region: Region) -> list[StoredChunk]:
        """Those that hold something of the region, in the order in which it lies in memory."""
        dtype = Dtype(stored.properties.dtype)
        chunks = []
        for chunk in stored.chunks:
            whole = Region(tuple(chunk.offsets), tuple(chunk.sizes))
            if region.meets(whole):
                place = self._places.get((key, chunk.offsets))
                if place is None:
                    raise ConversionError(f"{self.folder}: .metadata does not say where the chunks of {key} lie")
                chunks.append(StoredChunk(self.folder, place, whole, dtype))
        return sorted(chunks, key=lambda chunk: chunk.region.offsets)


@dataclass(frozen=True)
class _Part:
    """The part of one stored tensor that is asked for."""

    key: str
    region: Region
    dtype: Dtype
    chunks: list[StoredChunk]


class TensorReader:
    """Reads a tensor from its first byte to its last."""

    def __init__(self, folder: Path, parts: Sequence[_Part]) -> None:
        self._folder = folder
        self._steps = self._read(parts)
        self._wanted = memoryview(b"")
        next(self._steps)

    def fill(self, view: memoryview) -> None:
        """Put the next bytes into `view`, all of it.

        Raises:
            ConversionError: when a file of the checkpoint is missing or damaged.
        """
        self._wanted = view
        while len(self._wanted):
            # Nobody asks for more than the tensor has: its shape is known.
            next(self._steps)

    def skip_rest(self) -> None:
        """Read what is left and drop it: so that checksums of whole chunks can be compared."""
        scratch = memoryview(bytearray(_SKIPPED_BYTES))
        self._wanted = scratch
        for _ in self._steps:
            self._wanted = scratch

    def _read(self, parts: Sequence[_Part]) -> Iterator[None]:
        """Fills `_wanted` as far as it goes and waits for more."""
        yield
        for part in parts:
            try:
                yield from self._read_part(part)
            except (OSError, EOFError, RuntimeError, ValueError, KeyError, TypeError) as error:
                raise ConversionError(
                    f"{self._folder}: cannot read {part.key}; a file of the checkpoint is missing, truncated or "
                    f"damaged: {error}"
                ) from error

    def _read_part(self, part: _Part) -> Iterator[None]:
        if is_one_after_the_other(part.region, [chunk.region for chunk in part.chunks]):
            for chunk in part.chunks:
                yield from self._read_chunk(chunk, part.region)
            return
        target = np.zeros(part.region.sizes, part.dtype.bits)
        num_elements = sum(chunk.copy_into(target, part.region) for chunk in part.chunks)
        if num_elements != target.size:
            raise ValueError(f"its chunks hold {num_elements} of its {target.size} elements")
        yield from self._give(as_bytes(target))

    def _read_chunk(self, chunk: StoredChunk, region: Region) -> Iterator[None]:
        with chunk.opened(region) as stream:
            if stream is None:
                target = np.empty(chunk.region.common(region).sizes, chunk.dtype.bits)
                chunk.copy_into(target, chunk.region.common(region))
                yield from self._give(as_bytes(target))
                return
            while stream.num_left:
                count = min(stream.num_left, len(self._wanted))
                stream.fill(self._wanted[:count])
                self._wanted = self._wanted[count:]
                if not len(self._wanted):
                    yield

    def _give(self, content: memoryview) -> Iterator[None]:
        while len(content):
            count = min(len(content), len(self._wanted))
            self._wanted[:count] = content[:count]
            content, self._wanted = content[count:], self._wanted[count:]
            if not len(self._wanted):
                yield


def is_one_after_the_other(region: Region, chunks: Sequence[Region]) -> bool:
    """Whether a region that lies row by row consists of the chunks' parts of it, one run after the other."""
    position = 0
    for chunk in chunks:
        common = chunk.common(region)
        if region.first_element(common) != position or chunk.first_element(common) is None:
            return False
        position += prod(common.sizes)
    return position == prod(region.sizes)


def _check_files(folder: Path, places: Any) -> None:
    """Every file must be there and reach as far as something lies in it: known before hours of copying."""
    ends: dict[str, int] = {}
    place: Place
    for place in places:
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
