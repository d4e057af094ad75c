"""Write Hugging Face weight folders. Headers are laid out first; then the data pass through a few blocks of memory."""

import json
import struct
from collections.abc import Callable, Iterator, Sequence
from math import prod
from pathlib import Path
from typing import Any, TypeAlias

from megatron_sft.convert.disk import HashedFile
from megatron_sft.convert.dtypes import Dtype
from megatron_sft.convert.safetensors_folder import INDEX_FILE, SINGLE_FILE, TensorInfo

Fill: TypeAlias = Callable[[memoryview], None]
"""Fills memory with the next bytes of a tensor."""


def plan_files(tensors: Sequence[tuple[str, tuple[int, ...], Dtype]], max_bytes: int) -> list[TensorInfo]:
    """Assign each tensor, in order, to a file of at most `max_bytes` of data (more when one tensor is larger)."""
    counts, filled = [0], 0
    for _, shape, dtype in tensors:
        num_bytes = dtype.num_bytes * prod(shape)
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


def write_tensors(folder: Path, plan: Sequence[TensorInfo], tensors: Iterator[Fill]) -> dict[str, str]:
    """Write `tensors`, which come in the order of `plan`, and the index when there are several files.

    The format: 8 bytes little-endian length of the header, the header in JSON (name -> dtype, shape, first and last
    byte), the data.

    Returns:
        The sha256 (hex) of the bytes given to each file, by its name. The files are on the disk then.
    """
    digests = {}
    for name in dict.fromkeys(info.file for info in plan):
        members = [info for info in plan if info.file == name]
        with HashedFile(folder / name) as file:
            file.write(_header(members))
            for info in members:
                file.fill(info.num_bytes, next(tensors))
            digests[name] = file.finish()
    # The source compares its last checksum when it is asked for more.
    assert next(tensors, None) is None, "more tensors than planned"
    if len(digests) > 1:
        index = {
            "metadata": {"total_size": sum(info.num_bytes for info in plan)},
            "weight_map": {info.name: info.file for info in plan},
        }
        (folder / INDEX_FILE).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return digests


def _header(members: Sequence[TensorInfo]) -> bytes:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for info in members:
        header[info.name] = {
            "dtype": info.dtype.in_safetensors,
            "shape": list(info.shape),
            "data_offsets": [offset, offset + info.num_bytes],
        }
        offset += info.num_bytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text
