"""Hugging Face weight folders: `model.safetensors`, or numbered files with `model.safetensors.index.json`.

Every header is looked at before any weight, so a damaged or incomplete folder is refused at once, and single slices are
read, so a tensor-parallel rank never holds more than its share.
"""

import json
import struct
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from math import prod
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from megatron_sft.convert.disk import read_into
from megatron_sft.convert.dtypes import OF_SAFETENSORS, Dtype
from megatron_sft.errors import ConversionError

if TYPE_CHECKING:
    import torch

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"


@dataclass(frozen=True)
class TensorInfo:
    """A tensor as its file's header describes it."""

    name: str
    shape: tuple[int, ...]
    dtype: Dtype
    file: str
    """Name of the file within the folder."""

    @property
    def num_bytes(self) -> int:
        """Size of the data, bytes."""
        return self.dtype.num_bytes * prod(self.shape)


class SafetensorsFolder:
    """Reads tensors, or slices of them, from a folder of safetensors files. A context manager: files stay open."""

    def __init__(self, folder: Path) -> None:
        """Open every file and read its header.

        Raises:
            ConversionError: for a folder without weights, a file that is missing, truncated or not in the index, a
                tensor that two files hold, and a dtype that is not a weight's.
        """
        self.folder = folder
        self.tensors: dict[str, TensorInfo] = {}
        self._opened: dict[str, Any] = {}
        self._raw = ExitStack()
        self._descriptors: dict[str, int] = {}
        self._offsets: dict[str, int] = {}
        index = _read_index(folder)
        for name in _weight_files(folder, index):
            self._open(name)
        _check_index(folder, index, self.tensors)

    def read(self, name: str, *, dim: int = 0, start: int = 0, stop: int | None = None) -> "torch.Tensor":
        """Read rows (`dim=0`) or columns (`dim=1`) `start` to `stop` of a tensor; all of it by default."""
        import torch

        info = self.tensors[name]
        if dim == 0:
            stop = info.shape[0] if stop is None else min(stop, info.shape[0])
            target = torch.empty((stop - start, *info.shape[1:]), dtype=getattr(torch, info.dtype.value))
            # Other ranks of this machine read the same.
            view = target.view(-1).view(torch.uint8).numpy().data
            self.read_rows_into(view, name, start, keep_cached=True)
            return target
        try:
            if info.file not in self._opened:
                self._opened[info.file] = safe_open(self.folder / info.file, framework="pt")
            tensor: torch.Tensor = self._opened[info.file].get_slice(name)[:, start:stop]
        except (SafetensorError, OSError) as error:
            raise ConversionError(f"{self.folder / info.file}: cannot read {name}: {error}") from error
        return tensor

    def read_rows_into(self, view: memoryview, name: str, start: int, *, keep_cached: bool = False) -> None:
        """Fill memory with rows of a tensor, the first of them number `start`.

        Into memory of the caller's: what is mapped from a file adds up as more of it is read.
        """
        info = self.tensors[name]
        row_bytes = info.num_bytes // max(1, info.shape[0])
        try:
            if info.file not in self._descriptors:
                self._map_offsets(info.file)
            read_into(
                self._descriptors[info.file], view, self._offsets[name] + start * row_bytes, keep_cached=keep_cached
            )
        except (OSError, EOFError) as error:
            raise ConversionError(f"{self.folder / info.file}: cannot read {name}: {error}") from error

    def _map_offsets(self, name: str) -> None:
        """Where in a file, which safetensors has checked, each tensor begins."""
        file = self._raw.enter_context((self.folder / name).open("rb"))
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        self._offsets |= {
            tensor: 8 + length + facts["data_offsets"][0]
            for tensor, facts in header.items()
            if tensor != "__metadata__"
        }
        self._descriptors[name] = file.fileno()

    def __enter__(self) -> "SafetensorsFolder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.clear()
        self._raw.close()

    def _open(self, name: str) -> None:
        path = self.folder / name
        try:
            file: Any
            with safe_open(path, framework="np") as file:
                for tensor in file.keys():  # noqa: SIM118 (not a mapping)
                    self._add(path, tensor, file.get_slice(tensor))
        except (SafetensorError, OSError) as error:
            raise ConversionError(
                f"{path}: not a complete safetensors file ({error}); it is truncated or damaged: fetch it again"
            ) from error

    def _add(self, path: Path, name: str, part: Any) -> None:
        if name in self.tensors:
            raise ConversionError(f"{path}: tensor {name} is in {self.tensors[name].file} as well; remove one of them")
        if part.get_dtype() not in OF_SAFETENSORS:
            raise ConversionError(
                f"{path}: tensor {name} has dtype {part.get_dtype()}; supported are {', '.join(OF_SAFETENSORS)} "
                "(quantised weights cannot be trained: use the original model)"
            )
        self.tensors[name] = TensorInfo(name, tuple(part.get_shape()), OF_SAFETENSORS[part.get_dtype()], path.name)


def _read_index(folder: Path) -> dict[str, str] | None:
    """The index's map from tensor to file, or None where there is no index."""
    path = folder / INDEX_FILE
    if not path.exists():
        return None
    try:
        weight_map = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConversionError(f"{path}: not a safetensors index with a weight_map ({error!r})") from error
    if not isinstance(weight_map, dict) or not all(
        isinstance(file, str) and Path(file).name == file for file in weight_map.values()
    ):
        raise ConversionError(f"{path}: weight_map must map each tensor to the name of a file in this folder")
    return weight_map


def _weight_files(folder: Path, index: dict[str, str] | None) -> list[str]:
    found = sorted(path.name for path in folder.glob("model*.safetensors"))
    if index is None:
        if found != [SINGLE_FILE]:
            raise ConversionError(
                f"{folder}: found {', '.join(found) or 'no weights'}; expected {SINGLE_FILE}, or {INDEX_FILE} and its "
                "files (weights in another format must be saved as safetensors first)"
            )
        return found
    named = sorted(set(index.values()))
    missing, extra = sorted(set(named) - set(found)), sorted(set(found) - set(named))
    missing = [name for name in missing if not (folder / name).is_file()]
    if missing or extra:
        raise ConversionError(
            f"{folder / INDEX_FILE}: files {_or_none(missing)} are missing and files {_or_none(extra)} are not in the "
            "index; the folder is incomplete or mixed from two models"
        )
    return named


def _check_index(folder: Path, index: dict[str, str] | None, tensors: dict[str, TensorInfo]) -> None:
    if index is None:
        return
    wrong = sorted(
        name
        for name in index.keys() | tensors.keys()
        if name not in tensors or name not in index or index[name] != tensors[name].file
    )
    if wrong:
        raise ConversionError(
            f"{folder / INDEX_FILE}: index and files disagree on {len(wrong)} tensors, such as {wrong[0]}: "
            f"the index says {index.get(wrong[0])}, found in {tensors[wrong[0]].file if wrong[0] in tensors else None}"
        )


def _or_none(names: Sequence[str]) -> str:
    return ", ".join(names) or "(none)"
