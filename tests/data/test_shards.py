"""`ShardReader`: samples and masks from any valid folder, and a clear refusal of every damaged one."""

import json
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from megatron_sft.data.shards import ShardReader
from megatron_sft.errors import DataError

# Tokens of four sequences, masked and trained by turns; the second document has two turns.
DOCUMENTS = [[[1, 2, 3], [4, 5]], [[6], [7, 8], [9], [10]], [[11], [12]]]


def write_folder(folder: Path, documents: list[list[list[int]]] = DOCUMENTS) -> Path:
    """Write a shard folder with nothing but `struct`: what docs/shard-format.md says, without the Rust writer."""
    sequences = [sequence for document in documents for sequence in document]
    lengths = [len(sequence) for sequence in sequences]
    starts = np.cumsum([0, *(len(document) for document in documents)]).tolist()
    pointers = [4 * start for start in np.cumsum([0, *lengths[:-1]]).tolist()]
    idx = b"MMIDIDX\x00\x00" + struct.pack("<QBQQ", 1, 4, len(lengths), len(starts))
    idx += struct.pack(f"<{len(lengths)}i", *lengths) + struct.pack(f"<{len(pointers)}q", *pointers)
    idx += struct.pack(f"<{len(starts)}q", *starts)
    folder.mkdir()
    tokens = [token for sequence in sequences for token in sequence]
    (folder / "samples.bin").write_bytes(struct.pack(f"<{len(tokens)}i", *tokens))
    (folder / "samples.idx").write_bytes(idx)
    seal(folder, num_samples=len(documents))
    return folder


def seal(folder: Path, **changes: Any) -> None:
    """Write a manifest that agrees with the files as they are now."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text()) if path.exists() else {
        "format": "megatron-sft-shards", "format_version": 1, "fingerprint": "f", "stop_id": 5, "vocab_size": 20,
    }  # fmt: skip
    sizes = {name: {"size": (folder / name).stat().st_size, "sha256": "0"} for name in ("samples.bin", "samples.idx")}
    path.write_text(json.dumps(manifest | {"files": sizes} | changes))


def test_samples_lengths_and_masks(tmp_path: Path) -> None:
    reader = ShardReader(write_folder(tmp_path / "shards"))
    assert len(reader) == reader.num_samples == 3
    assert reader.fingerprint == "f"
    assert reader.lengths.tolist() == [5, 5, 2]
    assert reader.lengths.dtype == np.int64
    expected = [([1, 2, 3, 4, 5], [0, 0, 0, 1, 1]), ([6, 7, 8, 9, 10], [0, 1, 1, 0, 1]), ([11, 12], [0, 1])]
    for index, (tokens, trained) in enumerate(expected):
        sample = reader.sample(index)
        assert (sample.tokens.tolist(), sample.trained.tolist()) == (tokens, trained)
        assert (sample.tokens.dtype, sample.trained.dtype) == (np.int32, np.uint8)


@pytest.mark.parametrize("index", [-1, 3])
def test_index_out_of_range(index: int, tmp_path: Path) -> None:
    with pytest.raises(IndexError, match="of 3"):
        ShardReader(write_folder(tmp_path / "shards")).sample(index)


def test_a_pickled_reader_is_a_path(tmp_path: Path) -> None:
    reader = ShardReader(write_folder(tmp_path / "shards"))
    content = pickle.dumps(reader)
    assert len(content) < 1000
    assert pickle.loads(content).sample(2).tokens.tolist() == [11, 12]


def test_a_sample_can_be_changed_without_changing_the_shards(tmp_path: Path) -> None:
    reader = ShardReader(write_folder(tmp_path / "shards"))
    reader.sample(0).tokens[:] = 0
    assert reader.sample(0).tokens.tolist() == [1, 2, 3, 4, 5]


def patch_idx(offset: int, content: bytes) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        data = bytearray((folder / "samples.idx").read_bytes())
        data[offset : offset + len(content)] = content
        (folder / "samples.idx").write_bytes(data)
        seal(folder)

    return damage


def resize(name: str, size: int) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes((content + bytes(100))[:size])
        seal(folder)

    return damage


# Layout for 8 sequences and 4 document entries: header 34, lengths 34..66, pointers 66..130, documents 130..162.
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "manifest.json").unlink(), r"no manifest\.json.*incomplete.*tools/build_shards"),
        (lambda f: (f / "manifest.json").write_text("{"), "not JSON"),
        (lambda f: (f / "manifest.json").write_text("{}"), "not a manifest"),
        (lambda f: seal(f, format_version=2), "format version 2, this program reads 1"),
        (lambda f: seal(f, files={}), "does not list"),
        (lambda f: seal(f, num_samples=4), "holds 3 documents.*says 4"),
        (lambda f: (f / "samples.bin").unlink(), r"samples\.bin: missing"),
        (lambda f: (f / "samples.bin").write_bytes(b"1234"), r"samples\.bin: has 4 bytes.*says 48.*truncated"),
        (resize("samples.idx", 20), "too few for a header"),
        (resize("samples.idx", 100), "announces 162 bytes, the file has 100"),
        (resize("samples.bin", 44), r"take 48 bytes, but samples\.bin has 44"),
        (patch_idx(0, b"X"), "magic"),
        (patch_idx(9, b"\x02"), "version 1"),
        (patch_idx(17, b"\x08"), "int32"),
        (patch_idx(18, struct.pack("<Q", 2**63)), "announces"),
        (patch_idx(34, struct.pack("<i", -3)), "negative length"),
        (patch_idx(34, struct.pack("<i", 2)), "not one after the other"),
        (patch_idx(66 + 8, struct.pack("<q", 8)), "not one after the other"),
        (patch_idx(130 + 8, struct.pack("<q", 3)), "alternate"),
        (patch_idx(130 + 8, struct.pack("<q", 0)), "alternate"),
        (patch_idx(130 + 24, struct.pack("<q", 10)), "do not cover"),
    ],
)
def test_damage_is_named_with_file_and_remedy(damage: Callable[[Path], Any], message: str, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "shards")
    ShardReader(folder)
    damage(folder)
    with pytest.raises(DataError, match=message) as error:
        ShardReader(folder)
    assert str(folder) in str(error.value)
    assert "build" in str(error.value)


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        ShardReader(tmp_path / "none")


def test_verify_compares_hashes(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "shards")
    ShardReader(folder)
    with pytest.raises(DataError, match="sha256"):
        ShardReader(folder, verify=True)


@pytest.mark.trainer
def test_megatron_opens_the_folder(tmp_path: Path) -> None:
    """The layout that this reader takes is Megatron-Core's own, also for several turns."""
    indexed_dataset = pytest.importorskip("megatron.core.datasets.indexed_dataset")
    folder = write_folder(tmp_path / "shards")
    dataset = indexed_dataset.IndexedDataset(str(folder / "samples"))
    flat = [sequence for document in DOCUMENTS for sequence in document]
    assert [dataset[i].tolist() for i in range(len(dataset))] == flat
    assert dataset.document_indices.tolist() == [0, 2, 6, 8]
