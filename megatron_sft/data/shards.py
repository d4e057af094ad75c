"""Reads a shard folder: several `PREFIX.bin` and `PREFIX.idx` (Megatron-Core's IndexedDataset) with a `manifest.json`.

docs/shard-format.md is the specification. The files are memory-mapped and their index tables checked in Rust, so
opening millions of samples takes a fraction of a second, and all processes of a machine share the pages. Nothing here
needs torch.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from megatron_sft import _native
from megatron_sft.errors import DataError

FORMAT = "megatron-sft-shards"
FORMAT_VERSION = 2
MANIFEST_FILE = "manifest.json"

_COUNTS = ("num_samples", "tokens", "trained_tokens")
_MANIFEST_KEYS = {*_COUNTS, "fingerprint", "tokenizer_fingerprint", "stop_id", "vocab_size", "shards", "files"}
_REBUILD = "build the shards again with tools/build_shards --overwrite"


@dataclass(frozen=True)
class Sample:
    """One sample.

    tokens: int32[n], prompt then response then stop token.
    trained: uint8[n], 1 where the token is a target to be trained, that is, belongs to a trained sequence.
    """

    tokens: NDArray[np.int32]
    trained: NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class RowArrays:
    """One packed row of T places: its documents, then padding as a document of its own without trained tokens."""

    tokens: NDArray[np.int64]
    """int64[T] input ids."""
    labels: NDArray[np.int64]
    """int64[T] the id that follows in the same sample where it is trained, else 0."""
    loss_weights: NDArray[np.float32]
    """float32[T] weight of each place in the loss; 0 where nothing is trained."""
    position_ids: NDArray[np.int64]
    """int64[T] restart at 0 in each document."""
    cu_seqlens: NDArray[np.int32]
    """int32[N + 1] document boundaries, from 0 to T."""
    max_seqlen: int
    """Tokens of the longest document."""
    num_real_tokens: int
    """T without padding."""


class ShardReader:
    """Random access to the samples of one shard folder.

    Raises:
        DataError: when the folder is not a complete shard folder of a known version; names file and remedy.
    """

    def __init__(self, folder: str | Path, *, verify: bool = False) -> None:
        """Open `folder`; `verify=True` also compares every file with its sha256 in the manifest."""
        self.folder = Path(folder)
        self.manifest: dict[str, Any] = _read_manifest(self.folder)
        _check_files(self.folder, self.manifest, verify=verify)
        self._shards = _native.ShardSet(self.folder, [shard["prefix"] for shard in self.manifest["shards"]])
        _check_counts(self.folder / MANIFEST_FILE, self.manifest, self._shards.counts())

    def __len__(self) -> int:
        """The number of samples."""
        return self.num_samples

    def __reduce__(self) -> tuple[type["ShardReader"], tuple[Path]]:
        """Pickle as the path: a worker process maps the files itself instead of receiving their content."""
        return ShardReader, (self.folder,)

    @property
    def num_samples(self) -> int:
        """Documents in the shards."""
        return self._shards.num_samples

    @property
    def fingerprint(self) -> str:
        """sha256 over tokenizer, template, policy and inputs."""
        return str(self.manifest["fingerprint"])

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """int64[num_samples]: tokens of each sample, prompt, response and stop token together."""
        return self._shards.lengths()

    @cached_property
    def trained_tokens(self) -> NDArray[np.int64]:
        """int64[num_samples]: tokens of each sample that are trained, stop token included."""
        return self._shards.trained_lengths()

    @property
    def stop_token_id(self) -> int:
        """Id of the token that ends every trained response."""
        return int(self.manifest["stop_id"])

    @property
    def tokenizer_fingerprint(self) -> str:
        """sha256 over the tokenizer, template and special tokens that the shards were made with."""
        return str(self.manifest["tokenizer_fingerprint"])

    def sample(self, index: int) -> Sample:
        """Sample `index`, counted from 0 in the order of the inputs.

        Raises:
            IndexError: outside 0 to num_samples - 1.
        """
        if not 0 <= index < self.num_samples:
            raise IndexError(f"sample {index} of {self.num_samples}")
        tokens, trained = self._shards.sample(index)
        return Sample(tokens=tokens, trained=trained)

    def fill_row(
        self,
        indices: Sequence[int] | NDArray[np.int64],
        row_length: int | None,
        token_weights: float | NDArray[np.float32],
    ) -> RowArrays:
        """Lay samples one after the other.

        Args:
            indices: samples of the row; together at most `row_length` tokens.
            row_length: T; None for the real tokens alone (one padding token in an empty row).
            token_weights: weight of each trained token in the loss: one number, or float32[samples of the row].

        Worked example: a sample with tokens [5, 6, 7] of which [6, 7] are trained gives labels [6, 7, 0] and weights
        [w, w, 0]: place 0 is asked for 6, place 1 for 7, and nothing is asked of the last place.

        Raises:
            DataError: for a sample that does not exist, or samples that do not fit.
        """
        samples = np.ascontiguousarray(indices, dtype=np.int64)
        weights = np.ascontiguousarray(np.broadcast_to(np.asarray(token_weights, dtype=np.float32), samples.shape))
        tokens, labels, loss_weights, position_ids, cu_seqlens, max_seqlen, num_real_tokens = self._shards.fill_row(
            samples, row_length, weights
        )
        return RowArrays(
            tokens=tokens,
            labels=labels,
            loss_weights=loss_weights,
            position_ids=position_ids,
            cu_seqlens=cu_seqlens,
            max_seqlen=max_seqlen,
            num_real_tokens=num_real_tokens,
        )


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST_FILE
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; build it with tools/build_shards --output {folder}")
    if not path.is_file():
        raise DataError(
            f"{folder}: no {MANIFEST_FILE}, so the shards are incomplete; build them with tools/build_shards"
        )
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error}); {_REBUILD}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise DataError(f"{path}: not a manifest of {FORMAT!r}; give the folder that tools/build_shards wrote")
    if manifest.get("format_version") != FORMAT_VERSION:
        raise DataError(
            f"{path}: format version {manifest.get('format_version')!r}, "
            f"this program reads {FORMAT_VERSION}; {_REBUILD}"
        )
    missing = _MANIFEST_KEYS - manifest.keys()
    if missing:
        raise DataError(f"{path}: lacks {', '.join(sorted(missing))}; {_REBUILD}")
    _check_manifest(path, manifest)
    return manifest


def _check_manifest(path: Path, manifest: dict[str, Any]) -> None:
    """Types of what this module goes by, and that every file named is one of the folder."""
    shards, files = manifest["shards"], manifest["files"]
    if not isinstance(files, dict) or not all(_is_file_record(name, files[name]) for name in files):
        raise DataError(f"{path}: 'files' must give the size and sha256 of each file of the folder by name; {_REBUILD}")
    for number, shard in enumerate(shards if isinstance(shards, list) and shards else [None]):
        if not (
            isinstance(shard, dict)
            and isinstance(shard.get("prefix"), str)
            and all(type(shard.get(key)) is int for key in _COUNTS)
        ):
            raise DataError(
                f"{path}: shard {number} of 'shards' must have a prefix and the numbers {', '.join(_COUNTS)}; "
                f"{_REBUILD}"
            )
        for name in (f"{shard['prefix']}.bin", f"{shard['prefix']}.idx"):
            if name not in files:
                raise DataError(f"{path}: does not list {name} of shard {number} among its files; {_REBUILD}")


def _is_file_record(name: str, record: Any) -> bool:
    plain = name not in ("", ".", "..") and not {"/", "\\", "\0"} & set(name)
    return plain and isinstance(record, dict) and type(record.get("size")) is int and "sha256" in record


def _check_counts(path: Path, manifest: dict[str, Any], counts: list[tuple[int, int, int]]) -> None:
    """The manifest says of each shard, and of all together, what the index tables say."""
    for shard, found in zip(manifest["shards"], counts, strict=True):
        for key, number in zip(_COUNTS, found, strict=True):
            if shard[key] != number:
                raise DataError(f"{path}: says {key} {shard[key]} of {shard['prefix']}, it has {number}; {_REBUILD}")
    for key, numbers in zip(_COUNTS, zip(*counts, strict=True), strict=True):
        if manifest[key] != sum(numbers):
            raise DataError(f"{path}: says {key} {manifest[key]}, its shards have {sum(numbers)}; {_REBUILD}")


def _check_files(folder: Path, manifest: dict[str, Any], *, verify: bool) -> None:
    for name, record in manifest["files"].items():
        path = folder / name
        if not path.is_file():
            raise DataError(f"{path}: missing, though {MANIFEST_FILE} lists it; {_REBUILD}")
        if path.stat().st_size != record["size"]:
            raise DataError(
                f"{path}: has {path.stat().st_size} bytes, {MANIFEST_FILE} says {record['size']}: "
                f"truncated or replaced; {_REBUILD}"
            )
        if verify and _sha256(path) != record["sha256"]:
            raise DataError(f"{path}: its content differs from its sha256 in {MANIFEST_FILE}; {_REBUILD}")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
