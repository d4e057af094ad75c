"""Reads a shard folder: `samples.bin` and `samples.idx` (Megatron-Core's IndexedDataset) with their `manifest.json`.

docs/shard-format.md is the specification. The files are memory-mapped, so opening takes milliseconds and the pages
are shared by all processes of a machine. Nothing here needs torch.
"""

import hashlib
import json
import struct
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from megatron_sft.errors import DataError

FORMAT = "megatron-sft-shards"
FORMAT_VERSION = 1
MANIFEST_FILE = "manifest.json"
BIN_FILE = "samples.bin"
IDX_FILE = "samples.idx"

_HEADER = struct.Struct("<9sQBQQ")
_MAGIC = b"MMIDIDX\x00\x00"
_INDEX_VERSION = 1
_DTYPE_INT32 = 4
_REBUILD = "build the shards again with tools/build_shards --overwrite"


@dataclass(frozen=True)
class Sample:
    """One sample.

    tokens: int32[n], prompt then response then stop token.
    trained: uint8[n], 1 where the token is a target to be trained, that is, belongs to a trained sequence.
    """

    tokens: NDArray[np.int32]
    trained: NDArray[np.uint8]


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
        self._index = _Index(self.folder / IDX_FILE, bin_size=(self.folder / BIN_FILE).stat().st_size)
        if self._index.num_documents != self.num_samples:
            raise DataError(
                f"{self.folder / IDX_FILE}: holds {self._index.num_documents} documents, but {MANIFEST_FILE} says "
                f"{self.num_samples} samples; {_REBUILD}"
            )
        self._tokens = np.memmap(self.folder / BIN_FILE, dtype=np.int32, mode="r")

    def __len__(self) -> int:
        """The number of samples."""
        return self.num_samples

    def __reduce__(self) -> tuple[type["ShardReader"], tuple[Path]]:
        """Pickle as the path: a worker process maps the files itself instead of receiving their content."""
        return ShardReader, (self.folder,)

    @property
    def num_samples(self) -> int:
        """Documents in the shards."""
        return int(self.manifest["num_samples"])

    @property
    def fingerprint(self) -> str:
        """sha256 over tokenizer, template, policy and inputs."""
        return str(self.manifest["fingerprint"])

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """int64[num_samples]: tokens of each sample, prompt, response and stop token together."""
        return self._index.document_lengths()

    @cached_property
    def trained_tokens(self) -> NDArray[np.int64]:
        """int64[num_samples]: tokens of each sample that are trained, stop token included."""
        return self._index.trained_lengths()

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
        start, lengths = self._index.document(index)
        tokens = np.array(self._tokens[start : start + int(lengths.sum())])
        # The sequences of a document alternate masked, trained, masked, trained ...
        trained = np.repeat(np.arange(len(lengths), dtype=np.uint8) % 2, lengths)
        return Sample(tokens=tokens, trained=trained)


class _Index:
    """The three arrays of an `.idx` file, memory-mapped and checked.

    lengths: int32[num_sequences], tokens; pointers: int64[num_sequences], byte offsets into the `.bin` file;
    documents: int64[num_documents + 1], number of the first sequence of each document, and the end.
    """

    def __init__(self, path: Path, *, bin_size: int) -> None:
        self.path = path
        size = path.stat().st_size
        if size < _HEADER.size:
            raise self._damaged(f"{size} bytes are too few for a header")
        with path.open("rb") as file:
            magic, version, dtype, num_sequences, num_entries = _HEADER.unpack(file.read(_HEADER.size))
        if magic != _MAGIC or version != _INDEX_VERSION or dtype != _DTYPE_INT32:
            raise self._damaged(f"not an int32 IndexedDataset index of version 1 (magic {magic!r}, {version}, {dtype})")
        expected = _HEADER.size + num_sequences * (4 + 8) + num_entries * 8
        if expected != size:
            raise self._damaged(f"its header announces {expected} bytes, the file has {size}")
        raw = np.memmap(path, dtype=np.uint8, mode="r")
        ends = np.cumsum([_HEADER.size, num_sequences * 4, num_sequences * 8, num_entries * 8])
        self.lengths: NDArray[np.int32] = raw[ends[0] : ends[1]].view(np.int32)
        self.pointers: NDArray[np.int64] = raw[ends[1] : ends[2]].view(np.int64)
        self.documents: NDArray[np.int64] = raw[ends[2] : ends[3]].view(np.int64)
        self.num_documents = num_entries - 1
        self._check(bin_size)

    def document(self, index: int) -> tuple[int, NDArray[np.int32]]:
        """Token offset of a document and the lengths of its sequences."""
        first, end = int(self.documents[index]), int(self.documents[index + 1])
        return int(self.pointers[first]) // 4, self.lengths[first:end]

    def document_lengths(self) -> NDArray[np.int64]:
        """int64[num_documents]: tokens of each document."""
        return np.add.reduceat(self.lengths, self.documents[:-1], dtype=np.int64)

    def trained_lengths(self) -> NDArray[np.int64]:
        """int64[num_documents]: tokens in the trained sequences, every second one of a document."""
        # Documents have an even number of sequences, so the places of a document in the halved array are halved too.
        return np.add.reduceat(self.lengths[1::2], self.documents[:-1] // 2, dtype=np.int64)

    def _check(self, bin_size: int) -> None:
        if self.num_documents < 1 or self.documents[0] != 0 or self.documents[-1] != len(self.lengths):
            raise self._damaged("its documents do not cover its sequences")
        sequences = np.diff(self.documents)
        if (sequences < 2).any() or (sequences % 2).any():
            raise self._damaged("a document does not alternate masked and trained sequences")
        if (self.lengths < 0).any():
            raise self._damaged("a sequence has a negative length")
        ends = np.cumsum(self.lengths, dtype=np.int64) * 4
        if self.pointers[0] != 0 or (self.pointers[1:] != ends[:-1]).any():
            raise self._damaged("its sequences are not one after the other")
        if ends[-1] != bin_size:
            raise self._damaged(f"its sequences take {ends[-1]} bytes, but {BIN_FILE} has {bin_size}")

    def _damaged(self, what: str) -> DataError:
        return DataError(f"{self.path}: damaged index: {what}; {_REBUILD}")


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
    missing = {"num_samples", "fingerprint", "stop_id", "vocab_size", "files"} - manifest.keys()
    if missing:
        raise DataError(f"{path}: lacks {', '.join(sorted(missing))}; {_REBUILD}")
    return manifest


def _check_files(folder: Path, manifest: dict[str, Any], *, verify: bool) -> None:
    for name in {BIN_FILE, IDX_FILE} - manifest["files"].keys():
        raise DataError(f"{folder / MANIFEST_FILE}: does not list {name}; {_REBUILD}")
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
