"""What `torch.save` makes of one tensor, made around data that are in memory already, and without torch.

The archive is a zip file: `data.pkl` says how the tensor lies in its storage, `data/0` is the storage, uncompressed.
"""

import io
import pickle
import zipfile
from collections import OrderedDict
from typing import Any

from megatron_sft.convert.dtypes import Dtype
from megatron_sft.convert.saved_tensor import STORAGES, strides

DATA_START = 1024
"""First byte of the data in the archive. What comes before them takes some 700 bytes."""
END_BYTES = 2048
"""More than what comes after them takes."""
_SMALL_MEMBERS = {".format_version": b"1", ".storage_alignment": b"64", "byteorder": b"little", "version": b"3\n"}
_FILLING = b"FB"
"""Mark of an extra field that only takes room; torch's own."""


def saved_tensor(archive: memoryview, shape: tuple[int, ...], dtype: Dtype, num_bytes: int) -> int:
    """Complete the archive of a tensor.

    Args:
        archive: memory of at least DATA_START + num_bytes + END_BYTES, with the data from DATA_START on.
        shape: of the tensor.
        dtype: of the tensor.
        num_bytes: of the data.

    Returns:
        Bytes of the archive.
    """
    numel = num_bytes // dtype.num_bytes
    # Protocol 2 writes a class as a line with its module and one with its name: ours are replaced by torch's.
    content = io.BytesIO()
    _Pickler(content, protocol=2).dump(_Tensor(_Storage(dtype, numel), tuple(shape)))
    described = content.getvalue()
    names = {"_rebuild": ("torch._utils", "_rebuild_tensor_v2")}
    names |= {kind: ("torch", kind) for kind in STORAGES.values()}
    for name, (module, theirs) in names.items():
        described = described.replace(f"c{__name__}\n{name}\n".encode(), f"c{module}\n{theirs}\n".encode())
    assert b"megatron" not in described
    file = _InPlace(archive)
    with zipfile.ZipFile(file, "w") as members:
        _add_small(members, described)
        data = zipfile.ZipInfo("archive/data/0")
        # The header of the member has 30 bytes, its name and the extra field, which begins with 4 bytes of its own.
        room = DATA_START - file.tell() - 30 - len(data.filename) - 4
        data.extra = _FILLING + room.to_bytes(2, "little") + bytes(room)
        members.writestr(data, archive[DATA_START : DATA_START + num_bytes])
    return file.size


def saved_object(value: Any) -> bytes:
    """What `torch.save` makes of lists, dicts and None without a tensor in them."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as members:
        _add_small(members, pickle.dumps(value, protocol=2))
    return content.getvalue()


def _add_small(members: zipfile.ZipFile, described: bytes) -> None:
    for name, content in {"data.pkl": described, **_SMALL_MEMBERS}.items():
        members.writestr(zipfile.ZipInfo(f"archive/{name}"), content)


class _InPlace(io.RawIOBase):
    """The memory of an archive as a file. Its data are where they belong: writing them does nothing."""

    def __init__(self, memory: memoryview) -> None:
        super().__init__()
        self._memory = memory
        self._position = 0
        self.size = 0

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        assert whence == io.SEEK_SET
        self._position = offset
        return offset

    def write(self, data: Any) -> int:
        count = len(data)
        if self._position != DATA_START:
            self._memory[self._position : self._position + count] = data
        self._position += count
        self.size = max(self.size, self._position)
        return count


class _Tensor:
    def __init__(self, storage: "_Storage", shape: tuple[int, ...]) -> None:
        hooks: OrderedDict[str, Any] = OrderedDict()
        self._arguments = (storage, 0, shape, strides(shape), False, hooks)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, self._arguments


def _rebuild(*_: Any) -> None:
    """Stands for torch's function."""


class FloatStorage:
    """Stands for torch's."""


class BFloat16Storage:
    """Stands for torch's."""


class HalfStorage:
    """Stands for torch's."""


_KINDS = {kind.__name__: kind for kind in (FloatStorage, BFloat16Storage, HalfStorage)}


class _Storage:
    """The memory of a tensor, which a pickle refers to."""

    def __init__(self, dtype: Dtype, numel: int) -> None:
        self.reference = ("storage", _KINDS[STORAGES[dtype]], "0", "cpu", numel)


class _Pickler(pickle.Pickler):
    def persistent_id(self, value: Any) -> Any:
        """What stands for a storage."""
        return value.reference if isinstance(value, _Storage) else None
