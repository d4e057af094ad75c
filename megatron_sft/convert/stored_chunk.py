"""A chunk of a tensor in a file of a distributed checkpoint: where its bytes lie, and reading them into place."""

import contextlib
import pickle
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from megatron_sft.convert.disk import read_into
from megatron_sft.convert.dist_metadata import Place
from megatron_sft.convert.dtypes import Dtype, as_bytes
from megatron_sft.convert.saved_tensor import data_offset


@dataclass(frozen=True)
class Region:
    """A block of a tensor: first index and length along each dimension."""

    offsets: tuple[int, ...]
    sizes: tuple[int, ...]

    def common(self, other: "Region") -> "Region":
        """What both have; a size is 0 or less where they have nothing."""
        starts = tuple(map(max, self.offsets, other.offsets))
        sides = self.offsets, self.sizes, other.offsets, other.sizes
        stops = (min(a + m, b + n) for a, m, b, n in zip(*sides, strict=True))
        return Region(starts, tuple(stop - start for start, stop in zip(starts, stops, strict=True)))

    def meets(self, other: "Region") -> bool:
        """Whether they have an element in common."""
        return all(size > 0 for size in self.common(other).sizes)

    def slices_of(self, part: "Region") -> tuple[slice, ...]:
        """Where `part` lies in an array that holds this region."""
        starts = [inner - outer for inner, outer in zip(part.offsets, self.offsets, strict=True)]
        return tuple(slice(start, start + size) for start, size in zip(starts, part.sizes, strict=True))

    def first_element(self, part: "Region") -> int | None:
        """Number of the first element of `part` in this region, lying row by row; None where it has gaps there."""
        offsets = [inner - outer for inner, outer in zip(part.offsets, self.offsets, strict=True)]
        return first_element(self.sizes, offsets, part.sizes)


def first_element(whole: Sequence[int], offsets: Sequence[int], lengths: Sequence[int]) -> int | None:
    """Number of a region's first element in a tensor that lies row by row; None where the region has gaps there."""
    first, is_cut = 0, False
    for size, offset, length in zip(whole, offsets, lengths, strict=True):
        if is_cut and length != size:
            return None
        is_cut = is_cut or length > 1
        first = first * size + offset
    return first


class Stream:
    """Bytes of a file, from the first wanted to the last, with a look at the checksum where all are wanted."""

    def __init__(self, path: Path, descriptor: int, offset: int, num_left: int, crc: int | None) -> None:
        self.num_left = num_left
        """Bytes not read yet."""
        self._path, self._descriptor, self._offset, self._expected = path, descriptor, offset, crc
        self._crc = 0

    def fill(self, view: memoryview) -> None:
        """Read the next bytes.

        Raises:
            ValueError: when the checksum is another one.
        """
        read_into(self._descriptor, view, self._offset)
        self._offset += len(view)
        self.num_left -= len(view)
        if self._expected is not None:
            self._crc = zlib.crc32(view, self._crc)
            if not self.num_left and self._crc != self._expected:
                # torch.load does not look at it. A file saved without checksums has a wrong one for `data.pkl` already,
                # and is left to torch.
                raise ValueError(f"the checksum in {self._path.name} is not that of the data")


@dataclass(frozen=True)
class StoredChunk:
    """A chunk and its place."""

    folder: Path
    place: Place
    region: Region
    """Which block of the tensor it is."""
    dtype: Dtype

    @contextlib.contextmanager
    def opened(self, wanted: Region) -> Iterator[Stream | None]:
        """The bytes of what it has of `wanted`; None unless they are a single run in the file."""
        common = self.region.common(wanted)
        first = self.region.first_element(common)
        path = self.folder / self.place.relative_path
        if first is None or self.place.transform_descriptors:
            yield None
            return
        with path.open("rb", buffering=0) as file:
            found = data_offset(file.fileno(), self.place.offset, self.place.length, self.region.sizes, self.dtype)
            if found is None:
                yield None
                return
            offset, crc = found
            width = self.dtype.num_bytes
            is_whole = common == self.region
            yield Stream(
                path,
                file.fileno(),
                offset + first * width,
                prod(common.sizes) * width,
                crc if is_whole else None,
            )

    def copy_into(self, target: NDArray[Any], wanted: Region) -> int:
        """Copy what it has of `wanted` into its place in `target`, which holds `wanted`; returns how many elements."""
        common = self.region.common(wanted)
        whole = self._read()
        part = whole[self.region.slices_of(common)]
        target[wanted.slices_of(common)] = part
        return part.size

    def _read(self) -> NDArray[Any]:
        """All of it."""
        with self.opened(self.region) as stream:
            if stream is not None:
                whole = np.empty(self.region.sizes, self.dtype.bits)
                stream.fill(as_bytes(whole))
                return whole
        from megatron_sft.convert.torch_reader import read_chunk

        try:
            return read_chunk(self.folder, self.place, self.region.sizes, self.dtype)
        except pickle.UnpicklingError as error:
            raise ValueError(str(error)) from error
