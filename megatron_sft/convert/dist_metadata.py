"""The `.metadata` file of a distributed checkpoint, read and written without torch.

It is a pickle of a few dataclasses of torch.distributed.checkpoint, whose import takes seconds. The classes here stand
in for them, with their names and fields. Reading makes these and nothing else: whatever else a pickle names becomes an
object that does nothing, so a file from a stranger runs no code.
"""

import collections
import enum
import io
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from megatron_sft.convert.dtypes import Dtype
from megatron_sft.errors import ConversionError

FILE = ".metadata"
FORMAT_VERSION = "1.0.0"


class Size(tuple[int, ...]):
    """torch.Size."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Size, (tuple(self),)


class _NamedDtype:
    """torch.float32 and so on: pickled by name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __reduce__(self) -> str:
        return self.name


float32, bfloat16, float16 = (_NamedDtype(dtype.value) for dtype in (Dtype.FLOAT32, Dtype.BFLOAT16, Dtype.FLOAT16))


class _MEM_FORMAT_ENCODING(enum.Enum):
    TORCH_CONTIGUOUS_FORMAT = 0


def _get_layout(name: str) -> Any:
    return _Strided()


class _Strided:
    """torch.strided."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _get_layout, ("torch.strided",)


class TensorProperties:
    """What torch knows of a tensor besides its shape."""

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype
        """torch's name for it."""

    def __getstate__(self) -> tuple[Any, ...]:
        dtypes = {"float32": float32, "bfloat16": bfloat16, "float16": float16}
        return (dtypes[self.dtype], _Strided(), False, _MEM_FORMAT_ENCODING.TORCH_CONTIGUOUS_FORMAT, False)

    def __setstate__(self, state: Any) -> None:
        self.dtype = state[0].name if isinstance(state, tuple) and isinstance(state[0], _NamedDtype) else "unknown"


@dataclass
class ChunkStorageMetadata:
    """A part of a tensor that is stored by itself."""

    offsets: Size
    sizes: Size


@dataclass
class TensorStorageMetadata:
    """A whole tensor."""

    properties: TensorProperties
    size: Size
    chunks: list[ChunkStorageMetadata]


@dataclass
class BytesStorageMetadata:
    """Something that is no tensor."""


@dataclass(frozen=True)
class MetadataIndex:
    """Name of what is stored, for a tensor with the offsets of the chunk."""

    fqn: str
    offset: Size | None = None
    index: int | None = None


@dataclass
class _StorageInfo:
    """Where something lies."""

    relative_path: str
    offset: int
    length: int
    transform_descriptors: Sequence[str] | None = None


@dataclass
class Metadata:
    """The whole file."""

    state_dict_metadata: dict[str, TensorStorageMetadata | BytesStorageMetadata]
    planner_data: Any = None
    storage_data: Any = None
    storage_meta: Any = None
    version: str | None = FORMAT_VERSION


Place = _StorageInfo

_DCP = "torch.distributed.checkpoint"
_IN_TORCH: dict[tuple[str, str], Any] = {
    ("torch", "Size"): Size,
    ("torch", "float32"): float32,
    ("torch", "bfloat16"): bfloat16,
    ("torch", "float16"): float16,
    ("torch.serialization", "_get_layout"): _get_layout,
    (f"{_DCP}.metadata", "_MEM_FORMAT_ENCODING"): _MEM_FORMAT_ENCODING,
    (f"{_DCP}.metadata", "TensorProperties"): TensorProperties,
    (f"{_DCP}.metadata", "ChunkStorageMetadata"): ChunkStorageMetadata,
    (f"{_DCP}.metadata", "TensorStorageMetadata"): TensorStorageMetadata,
    (f"{_DCP}.metadata", "BytesStorageMetadata"): BytesStorageMetadata,
    (f"{_DCP}.metadata", "MetadataIndex"): MetadataIndex,
    (f"{_DCP}.metadata", "Metadata"): Metadata,
    (f"{_DCP}.filesystem", "_StorageInfo"): _StorageInfo,
    # Where older versions of torch have it.
    ("torch.distributed._shard.sharded_tensor.metadata", "TensorProperties"): TensorProperties,
    ("collections", "OrderedDict"): collections.OrderedDict,
}


class _Ignored:
    """Takes whatever a pickle does with an object."""

    def __new__(cls, *_: Any, **__: Any) -> "_Ignored":
        return object.__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None: ...
    def __setstate__(self, _: Any) -> None: ...
    def __setitem__(self, _: Any, __: Any) -> None: ...
    def append(self, _: Any) -> None:
        """Nothing."""

    def extend(self, _: Any) -> None:
        """Nothing."""

    def add(self, _: Any) -> None:
        """Nothing."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """The class here that stands for the one named."""
        return _IN_TORCH.get((module, name), _Ignored)


@dataclass(frozen=True)
class Index:
    """What a `.metadata` file says of tensors."""

    tensors: dict[str, TensorStorageMetadata]
    """By name."""
    places: dict[tuple[str, tuple[int, ...] | None], Place]
    """Where each chunk lies, by name and offsets of the chunk (None for what is no tensor)."""


def read_index(folder: Path) -> Index:
    """Read FOLDER/.metadata.

    Raises:
        ConversionError: when it is missing, damaged or something else.
    """
    try:
        found = _Unpickler(io.BytesIO((folder / FILE).read_bytes())).load()
        return Index(
            tensors={
                str(name): stored
                for name, stored in found.state_dict_metadata.items()
                if isinstance(stored, TensorStorageMetadata) and _is_sound(stored)
            },
            places={(index.fqn, index.offset): _checked(place) for index, place in found.storage_data.items()},
        )
    # A damaged pickle can fail in any way.
    except Exception as error:
        raise ConversionError(f"{folder}: cannot read the distributed checkpoint's {FILE}: {error!r}") from error


def _is_sound(stored: TensorStorageMetadata) -> bool:
    sizes = [stored.size, *(part for chunk in stored.chunks for part in (chunk.offsets, chunk.sizes))]
    if not all(isinstance(size, Size) and len(size) == len(stored.size) for size in sizes):
        raise ValueError("sizes are not those of torch.distributed.checkpoint")
    return True


def _checked(place: Any) -> Place:
    if not isinstance(place, Place) or not all(isinstance(value, int) for value in (place.offset, place.length)):
        raise TypeError(f"{place!r} is no place in a file")
    if Path(place.relative_path).name != place.relative_path:
        raise ValueError(f"{place.relative_path!r} is no name of a file in the folder")
    return place


def metadata_bytes(metadata: Metadata) -> bytes:
    """The content of a `.metadata` file, which torch.distributed.checkpoint reads as its own."""
    # Protocol 2 writes each class as a line with its module and a line with its name, so that both can be replaced.
    content = pickle.dumps(metadata, protocol=2)
    for (module, name), stand_in in _IN_TORCH.items():
        if stand_in is not collections.OrderedDict:
            content = content.replace(f"c{__name__}\n{name}\n".encode(), f"c{module}\n{name}\n".encode())
    assert b"cmegatron" not in content
    return content
