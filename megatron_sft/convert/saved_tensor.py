"""Where in a file the data lie of a tensor that `torch.save` wrote, so that a part can be read straight into its place.

`torch.load` reads a whole tensor through Python and copies it from there. A saved tensor is a zip archive: `data.pkl`
says how the tensor lies in its storage, and `data/0` is the storage, uncompressed.
"""

import io
import math
import os
import pickle
import struct
import zipfile
from typing import Any

from megatron_sft.convert.dtypes import Dtype

STORAGES = {Dtype.FLOAT32: "FloatStorage", Dtype.BFLOAT16: "BFloat16Storage", Dtype.FLOAT16: "HalfStorage"}
"""What torch calls the memory of a tensor."""

_LOCAL_HEADER_BYTES = 30


def data_offset(
    descriptor: int, begin: int, length: int, shape: tuple[int, ...], dtype: Dtype
) -> tuple[int, int] | None:
    """First byte, in the file, of the data of a tensor that is stored row by row without gaps, and their crc32.

    Args:
        descriptor: of the open file.
        begin: first byte of the archive in it.
        length: bytes of the archive.
        shape: what the tensor should have.
        dtype: likewise.

    Returns:
        None for whatever else was saved, and for archives without checksums; `torch.load` can read these.
    """
    archive = _Part(descriptor, begin, length)
    try:
        with zipfile.ZipFile(archive) as members:
            names = {name.split("/", 1)[-1]: name for name in members.namelist()}
            if members.read(names["byteorder"]) != b"little":
                return None
            layout = _Layout(io.BytesIO(members.read(names["data.pkl"]))).load()
            storage = members.getinfo(names["data/0"])
    except (KeyError, pickle.UnpicklingError, zipfile.BadZipFile, AttributeError, EOFError, TypeError, ValueError):
        return None
    num_bytes = math.prod(shape) * dtype.num_bytes
    wanted = ((STORAGES[dtype], "0"), 0, shape, strides(shape))
    if layout[:4] != wanted or storage.compress_type != zipfile.ZIP_STORED or storage.file_size != num_bytes:
        return None
    header = os.pread(descriptor, _LOCAL_HEADER_BYTES, begin + storage.header_offset)
    name_bytes, extra_bytes = struct.unpack("<26x2H", header)
    start = storage.header_offset + _LOCAL_HEADER_BYTES + name_bytes + extra_bytes
    return (begin + start, storage.CRC) if start + num_bytes <= length else None


def strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Of a tensor that lies row by row, as torch counts them."""
    return tuple(math.prod(max(1, size) for size in shape[dim + 1 :]) for dim in range(len(shape)))


class _Part(io.RawIOBase):
    """A part of a file as a file of its own."""

    def __init__(self, descriptor: int, begin: int, length: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._begin = begin
        self._length = length
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._length}[whence]
        if base + offset < 0:
            raise ValueError(f"seek to {base + offset}")
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        count = min(len(buffer), max(0, self._length - self._position))
        content = os.pread(self._descriptor, count, self._begin + self._position)
        buffer[: len(content)] = content
        self._position += len(content)
        return len(content)


class _Layout(pickle.Unpickler):
    """Reads ((dtype, storage), offset, shape, stride, ...) and runs nothing of what the pickle names."""

    def find_class(self, module: str, name: str) -> Any:
        """The few names of a plain tensor's pickle."""
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda *arguments: arguments
        if (module, name) == ("collections", "OrderedDict"):
            return dict
        if module == "torch" and name.endswith("Storage"):
            return name
        raise pickle.UnpicklingError(f"{module}.{name} is no part of a plain tensor")

    def persistent_load(self, pid: Any) -> Any:
        """A storage: its kind and its number."""
        _, kind, number, _, _ = pid
        return kind, number
