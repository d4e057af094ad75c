"""Hugging Face weight folders: `model.safetensors`, or numbered files with `model.safetensors.index.json`.

The reader looks at every header before any weight, so a damaged or incomplete folder is refused at once, and it reads
single slices, so a tensor-parallel rank never holds more than its share. The writer lays the headers out first and then
takes one tensor at a time, so an export never holds more than the tensor it is writing.
"""

import hashlib
import json
import struct
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from megatron_sft.convert.disk import PiecewiseFile, as_bytes, read_into
from megatron_sft.errors import ConversionError

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
"""The dtypes of weights that can be converted, by their name in a safetensors header."""

_DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}


@dataclass(frozen=True)
class TensorInfo:
    """A tensor as its file's header describes it."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    file: str
    """Name of the file within the folder."""

    @property
    def num_bytes(self) -> int:
        """Size of the data, bytes."""
        return self.dtype.itemsize * torch.Size(self.shape).numel()


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
        self._files: dict[str, Any] = {}
        self._raw = ExitStack()
        self._descriptors: dict[str, int] = {}
        self._offsets: dict[str, int] = {}
        index = _read_index(folder)
        for name in _weight_files(folder, index):
            self._open(name)
        _check_index(folder, index, self.tensors)

    def read(self, name: str, *, dim: int = 0, start: int = 0, stop: int | None = None) -> torch.Tensor:
        """Read rows (`dim=0`) or columns (`dim=1`) `start` to `stop` of a tensor; all of it by default."""
        info = self.tensors[name]
        try:
            if dim == 0:
                return self._read_rows(info, start, info.shape[0] if stop is None else min(stop, info.shape[0]))
            tensor: torch.Tensor = self._files[info.file].get_slice(name)[:, start:stop]
        except (SafetensorError, OSError, EOFError) as error:
            raise ConversionError(f"{self.folder / info.file}: cannot read {name}: {error}") from error
        return tensor

    def _read_rows(self, info: TensorInfo, start: int, stop: int) -> torch.Tensor:
        """Into memory of its own: what is mapped from a file adds up as more of it is read."""
        if info.file not in self._descriptors:
            self._map_offsets(info.file)
        target = torch.empty((stop - start, *info.shape[1:]), dtype=info.dtype)
        row_bytes = info.num_bytes // max(1, info.shape[0])
        read_into(self._descriptors[info.file], target, self._offsets[info.name] + start * row_bytes)
        return target

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
        self._files.clear()
        self._raw.close()

    def _open(self, name: str) -> None:
        path = self.folder / name
        try:
            file: Any = safe_open(path, framework="pt")
            self._files[name] = file
            for tensor in file.keys():  # noqa: SIM118 (not a mapping)
                self._add(path, tensor, file.get_slice(tensor))
        except (SafetensorError, OSError) as error:
            raise ConversionError(
                f"{path}: not a complete safetensors file ({error}); it is truncated or damaged: fetch it again"
            ) from error

    def _add(self, path: Path, name: str, part: Any) -> None:
        if name in self.tensors:
            raise ConversionError(f"{path}: tensor {name} is in {self.tensors[name].file} as well; remove one of them")
        if part.get_dtype() not in DTYPES:
            raise ConversionError(
                f"{path}: tensor {name} has dtype {part.get_dtype()}; supported are {', '.join(DTYPES)} "
                "(quantised weights cannot be trained: use the original model)"
            )
        self.tensors[name] = TensorInfo(name, tuple(part.get_shape()), DTYPES[part.get_dtype()], path.name)


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


def plan_files(tensors: Sequence[tuple[str, tuple[int, ...], torch.dtype]], max_bytes: int) -> list[TensorInfo]:
    """Assign each tensor, in order, to a file of at most `max_bytes` of data (more when one tensor is larger)."""
    counts, filled = [0], 0
    for _, shape, dtype in tensors:
        num_bytes = dtype.itemsize * torch.Size(shape).numel()
        if counts[-1] and filled + num_bytes > max_bytes:
            counts.append(0)
            filled = 0
        counts[-1] += 1
        filled += num_bytes
    if len(counts) == 1:
        names = [SINGLE_FILE]
    else:
        names = [f"model-{number:05d}-of-{len(counts):05d}.safetensors" for number in range(1, len(counts) + 1)]
    files = [name for name, count in zip(names, counts, strict=True) for _ in range(count)]
    return [TensorInfo(*tensor, file) for tensor, file in zip(tensors, files, strict=True)]


def write_tensors(folder: Path, plan: Sequence[TensorInfo], tensors: Iterator[torch.Tensor]) -> dict[str, str]:
    """Write `tensors`, which come in the order of `plan`, and the index when there are several files.

    Files are not synced; the caller syncs the folder. The format: 8 bytes little-endian length of the header, the
    header in JSON (name -> dtype, shape, first and last byte), the data.

    Returns:
        The sha256 (hex) of the bytes given to each file, by its name.
    """
    digests = {}
    for name in dict.fromkeys(info.file for info in plan):
        with PiecewiseFile(folder / name) as file:
            digests[name] = _write_file(file, [info for info in plan if info.file == name], tensors)
    if len({info.file for info in plan}) > 1:
        index = {
            "metadata": {"total_size": sum(info.num_bytes for info in plan)},
            "weight_map": {info.name: info.file for info in plan},
        }
        (folder / INDEX_FILE).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return digests


def _write_file(file: PiecewiseFile, members: Sequence[TensorInfo], tensors: Iterator[torch.Tensor]) -> str:
    header = _header(members)
    digest = hashlib.sha256(header)
    file.write(header)
    # Neither writing nor hashing holds Python's lock: they go side by side.
    with ThreadPoolExecutor(max_workers=1) as hashing:
        for info in members:
            tensor = next(tensors)
            assert (tuple(tensor.shape), tensor.dtype) == (info.shape, info.dtype), info
            content = as_bytes(tensor.contiguous())
            hashed = hashing.submit(digest.update, content)
            file.write(content)
            hashed.result()
            del tensor, content, hashed  # else two would be in memory while the next one is read
    return digest.hexdigest()


def _header(members: Sequence[TensorInfo]) -> bytes:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for info in members:
        header[info.name] = {
            "dtype": _DTYPE_NAMES[info.dtype],
            "shape": list(info.shape),
            "data_offsets": [offset, offset + info.num_bytes],
        }
        offset += info.num_bytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text
