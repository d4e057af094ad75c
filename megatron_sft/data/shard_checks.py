"""Checks of shard folders for people: which files are damaged, and in what two folders differ."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from megatron_sft.data.shards import MANIFEST_FILE, Sample, ShardReader
from megatron_sft.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What became of one file of a folder."""

    path: Path
    """The file."""
    problem: str
    """What is wrong with it; empty when nothing is."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """An entry of two manifests that is not the same."""

    key: str
    """Its keys from the outermost, joined by dots."""
    left: object
    """Its value in the first folder; "absent" where there is none."""
    right: object
    """Its value in the second."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where two folders first differ."""

    sample: int
    """Number of the sample, from 0."""
    token: int
    """Position in the sample, from 0; the length of the shorter one where one begins like the other."""


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest as it stands, of any version.

    Raises:
        DataError: when there is none, or it is not a JSON object.
    """
    path = folder / MANIFEST_FILE
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); give a folder of tools/build_shards") from error
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error}); build the shards again with tools/build_shards") from error
    if not isinstance(manifest, dict):
        raise DataError(f"{path}: not an object; build the shards again with tools/build_shards")
    return manifest


def check_files(folder: Path, manifest: dict[str, Any]) -> Iterator[Finding]:
    """Compare each file that the manifest lists with its size and sha256.

    Raises:
        DataError: when the manifest lists no files.
    """
    records = manifest.get("files")
    if not isinstance(records, dict) or not records:
        raise DataError(f"{folder / MANIFEST_FILE}: lists no files; build the shards again with tools/build_shards")
    for name, record in records.items():
        yield Finding(path=folder / name, problem=_file_problem(folder / name, record))


def _file_problem(path: Path, record: dict[str, Any]) -> str:
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            if size != record["size"]:
                return f"has {size} bytes, the manifest says {record['size']}"
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return "" if found == record["sha256"] else f"its sha256 is {found}, the manifest says {record['sha256']}"


def compare_manifests(left: dict[str, Any], right: dict[str, Any]) -> Iterator[Difference]:
    """Every entry that differs, with lists of equal length compared entry by entry."""
    yield from _compare_values("", left, right)


def _compare_values(key: str, left: object, right: object) -> Iterator[Difference]:
    if isinstance(left, dict) and isinstance(right, dict):
        for name in dict.fromkeys([*left, *right]):
            inner = f"{key}.{name}" if key else str(name)
            yield from _compare_values(inner, left.get(name, "absent"), right.get(name, "absent"))
    elif isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        for number, pair in enumerate(zip(left, right, strict=True)):
            yield from _compare_values(f"{key}[{number}]", *pair)
    elif left != right:
        yield Difference(key=key, left=left, right=right)


def first_difference(left: ShardReader, right: ShardReader) -> Place | None:
    """The first token that is another one, or trained in one folder only; None when all samples are equal."""
    for index in range(min(left.num_samples, right.num_samples)):
        token = _first_difference_of_samples(left.sample(index), right.sample(index))
        if token is not None:
            return Place(sample=index, token=token)
    if left.num_samples != right.num_samples:
        return Place(sample=min(left.num_samples, right.num_samples), token=0)
    return None


def _first_difference_of_samples(left: Sample, right: Sample) -> int | None:
    shorter = min(len(left.tokens), len(right.tokens))
    differs = (left.tokens[:shorter] != right.tokens[:shorter]) | (left.trained[:shorter] != right.trained[:shorter])
    if differs.any():
        return int(np.argmax(differs))
    return shorter if len(left.tokens) != len(right.tokens) else None
