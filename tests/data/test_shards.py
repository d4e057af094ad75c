"""`ShardReader`: samples, masks and rows from any valid folder, and a clear refusal of every damaged one."""

import json
import pickle
import struct
import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from megatron_sft.data.shards import RowArrays, Sample, ShardReader
from megatron_sft.errors import DataError
from tests.data.shard_folder import seal, write_folder, write_shard

# Tokens of the sequences of three samples, masked and trained by turns; the second sample has two turns.
FIRST = [[[1, 2, 3], [4, 5]], [[6], [7, 8], [9], [10]]]
SECOND = [[[11], [12]]]


def test_samples_lengths_and_masks_through_two_shards(tmp_path: Path) -> None:
    reader = ShardReader(write_folder(tmp_path / "shards", FIRST, SECOND), verify=True)
    assert len(reader) == reader.num_samples == 3
    assert (reader.fingerprint, reader.tokenizer_fingerprint, reader.stop_token_id) == ("f", "t", 5)
    assert (reader.lengths.tolist(), reader.trained_tokens.tolist()) == ([5, 5, 2], [2, 3, 1])
    assert (reader.lengths.dtype, reader.trained_tokens.dtype) == (np.int64, np.int64)
    expected = [([1, 2, 3, 4, 5], [0, 0, 0, 1, 1]), ([6, 7, 8, 9, 10], [0, 1, 1, 0, 1]), ([11, 12], [0, 1])]
    for index, (tokens, trained) in enumerate(expected):
        sample = reader.sample(index)
        assert (sample.tokens.tolist(), sample.trained.tolist()) == (tokens, trained)
        assert (sample.tokens.dtype, sample.trained.dtype) == (np.int32, np.uint8)


@pytest.mark.parametrize("index", [-1, 3, 2**63, -(2**70)])
def test_index_out_of_range(index: int, tmp_path: Path) -> None:
    with pytest.raises(IndexError, match="of 3"):
        ShardReader(write_folder(tmp_path / "shards", FIRST, SECOND)).sample(index)


def test_a_pickled_reader_is_a_path(tmp_path: Path) -> None:
    reader = ShardReader(write_folder(tmp_path / "shards", FIRST, SECOND))
    content = pickle.dumps(reader)
    assert len(content) < 1000
    assert pickle.loads(content).sample(2).tokens.tolist() == [11, 12]


def test_a_sample_can_be_changed_without_changing_the_shards(tmp_path: Path) -> None:
    reader = ShardReader(write_folder(tmp_path / "shards", FIRST))
    reader.sample(0).tokens[:] = 0
    assert reader.sample(0).tokens.tolist() == [1, 2, 3, 4, 5]


def test_a_row_of_two_samples_and_padding(tmp_path: Path) -> None:
    reader = ShardReader(write_folder(tmp_path / "shards", FIRST, SECOND))
    row = reader.fill_row([0, 2], 9, 0.25)
    assert row.tokens.tolist() == [1, 2, 3, 4, 5, 11, 12, 0, 0]
    assert row.labels.tolist() == [0, 0, 4, 5, 0, 12, 0, 0, 0]
    assert row.loss_weights.tolist() == [0, 0, 0.25, 0.25, 0, 0.25, 0, 0, 0]
    assert row.position_ids.tolist() == [0, 1, 2, 3, 4, 0, 1, 0, 1]
    assert row.cu_seqlens.tolist() == [0, 5, 7, 9]
    assert (row.max_seqlen, row.num_real_tokens) == (5, 7)
    assert reader.fill_row([0, 2], 9, np.array([1, 3], dtype=np.float32)).loss_weights.tolist() == [
        0, 0, 1, 1, 0, 3, 0, 0, 0,
    ]  # fmt: skip


def slow_row(samples: list[Sample], row_length: int | None, weights: list[float]) -> RowArrays:
    """The same in plain Python, place by place."""
    tokens, labels, loss_weights, positions, bounds = [], [], [], [], [0]
    for sample, weight in zip(samples, weights, strict=True):
        for place, token in enumerate(sample.tokens.tolist()):
            last = place + 1 == len(sample.tokens)
            trained = not last and bool(sample.trained[place + 1])
            tokens.append(token)
            labels.append(int(sample.tokens[place + 1]) if trained else 0)
            loss_weights.append(weight if trained else 0.0)
            positions.append(place)
        bounds.append(len(tokens))
    num_real_tokens = len(tokens)
    num_padding = (max(num_real_tokens, 1) if row_length is None else row_length) - num_real_tokens
    if num_padding:
        bounds.append(num_real_tokens + num_padding)
    return RowArrays(
        tokens=np.array(tokens + [0] * num_padding, dtype=np.int64),
        labels=np.array(labels + [0] * num_padding, dtype=np.int64),
        loss_weights=np.array(loss_weights + [0.0] * num_padding, dtype=np.float32),
        position_ids=np.array(positions + list(range(num_padding)), dtype=np.int64),
        cu_seqlens=np.array(bounds, dtype=np.int32),
        max_seqlen=max(end - start for start, end in pairwise(bounds)),
        num_real_tokens=num_real_tokens,
    )


def random_shards(folder: Path, seed: int = 0) -> ShardReader:
    """Three shards of samples of one to three turns."""
    generator = np.random.default_rng(seed)

    def document() -> list[list[int]]:
        return [
            generator.integers(0, 2**31, generator.integers(1, 9)).tolist() for _ in range(2 * generator.integers(1, 4))
        ]

    return ShardReader(write_folder(folder, *([document() for _ in range(count)] for count in (5, 1, 20))))


def assert_same(row: RowArrays, expected: RowArrays) -> None:
    for name, value in vars(expected).items():
        found = getattr(row, name)
        if isinstance(value, np.ndarray):
            assert found.dtype == value.dtype, name
            assert np.array_equal(found, value), name
        else:
            assert found == value, name


def test_rows_agree_with_the_slow_reference(tmp_path: Path) -> None:
    reader = random_shards(tmp_path / "shards")
    generator = np.random.default_rng(1)
    for trial in range(200):
        indices = generator.integers(0, len(reader), generator.integers(0, 8))
        weights = generator.random(len(indices), dtype=np.float32)
        num_tokens = int(reader.lengths[indices].sum())
        row_length = [None, num_tokens or 1, num_tokens + 7][trial % 3]
        expected = slow_row([reader.sample(int(index)) for index in indices], row_length, weights.tolist())
        assert_same(reader.fill_row(indices, row_length, weights), expected)


def test_every_document_of_a_row_is_as_if_alone(tmp_path: Path) -> None:
    reader = random_shards(tmp_path / "shards")
    indices = [3, 17, 3, 25]
    row = reader.fill_row(indices, 200, 0.5)
    assert len(row.cu_seqlens) == len(indices) + 2
    for index, start, end in zip(indices, row.cu_seqlens, row.cu_seqlens[1:], strict=False):
        alone = reader.fill_row([index], None, 0.5)
        for name in ("tokens", "labels", "loss_weights", "position_ids"):
            assert getattr(row, name)[start:end].tolist() == getattr(alone, name).tolist(), name


def test_a_row_without_samples_is_padding(tmp_path: Path) -> None:
    reader = random_shards(tmp_path / "shards")
    assert_same(reader.fill_row([], None, 1.0), slow_row([], None, []))
    assert_same(reader.fill_row([], 6, np.empty(0, dtype=np.float32)), slow_row([], 6, []))


@pytest.mark.parametrize(
    ("indices", "row_length", "message"),
    [
        ([0, 1], 9, "2 samples of 10 tokens do not fit into a row of 9"),
        ([0], 2**31, "do not fit into a row of 2147483648"),
        ([], 0, "row of 0"),
        ([0, 3], None, "sample 3: there are 3"),
        ([-1], None, "sample -1: there are 3"),
    ],
)
def test_rows_that_cannot_be(indices: list[int], row_length: int | None, message: str, tmp_path: Path) -> None:
    reader = ShardReader(write_folder(tmp_path / "shards", FIRST, SECOND))
    with pytest.raises(DataError, match=message):
        reader.fill_row(indices, row_length, 1.0)


def test_threads_share_a_reader(tmp_path: Path) -> None:
    reader = random_shards(tmp_path / "shards")
    expected = [reader.fill_row([i, len(reader) - 1 - i], None, 1.0).tokens.tolist() for i in range(len(reader))]
    found: dict[int, list[Any]] = {}

    def read(thread: int) -> None:
        found[thread] = [reader.fill_row([i, len(reader) - 1 - i], None, 1.0).tokens.tolist() for i in range(26)]

    threads = [threading.Thread(target=read, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[thread] for thread in range(4)] == [expected] * 4


def patch_idx(offset: int, content: bytes) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        data = bytearray((folder / "samples-00000.idx").read_bytes())
        data[offset : offset + len(content)] = content
        (folder / "samples-00000.idx").write_bytes(data)
        seal(folder)

    return damage


def resize(name: str, size: int) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes((content + bytes(100))[:size])
        seal(folder)

    return damage


def change_shard(number: int, **changes: Any) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        shards = json.loads((folder / "manifest.json").read_text())["shards"]
        shards[number] |= changes
        seal(folder, shards=shards)

    return damage


# Shard 0 has 6 sequences and 3 document entries: header 0..34, lengths 34..58, pointers 58..106, documents 106..130.
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "manifest.json").unlink(), r"no manifest\.json.*incomplete.*tools/build_shards"),
        (lambda f: (f / "manifest.json").write_text("{"), "not JSON"),
        (lambda f: (f / "manifest.json").write_text("{}"), "not a manifest"),
        (lambda f: (f / "manifest.json").write_bytes(b"\xff"), "not JSON"),
        (lambda f: seal(f, format_version=1), "format version 1, this program reads 2; build the shards again"),
        (lambda f: seal(f, format_version="2"), "format version '2'"),
        (lambda f: seal(f, files={}), r"does not list samples-00000\.bin of shard 0"),
        (lambda f: seal(f, files=[]), "'files' must give"),
        (lambda f: seal(f, files={"../x": {"size": 1, "sha256": ""}}), "'files' must give"),
        (lambda f: seal(f, shards=[]), "shard 0 of 'shards' must have a prefix"),
        (lambda f: seal(f, shards={}), "shard 0 of 'shards' must have a prefix"),
        (change_shard(1, prefix="../samples-00001"), r"does not list \.\./samples-00001\.bin of shard 1"),
        (change_shard(1, prefix="samples-00000"), "says num_samples 1 of samples-00000, it has 2"),
        (change_shard(0, num_samples="2"), "shard 0 of 'shards' must have a prefix and the numbers"),
        (change_shard(0, tokens=11), "says tokens 11 of samples-00000, it has 10"),
        (change_shard(0, trained_tokens=4), "says trained_tokens 4 of samples-00000, it has 5"),
        (lambda f: seal(f, num_samples=4), "says num_samples 4, its shards have 3"),
        (lambda f: seal(f, tokens="12"), "says tokens 12, its shards have 12"),
        (lambda f: (f / "samples-00001.bin").unlink(), r"samples-00001\.bin: missing"),
        (lambda f: (f / "samples-00001.bin").write_bytes(b"1234"), r"00001\.bin: has 4 bytes.*says 8.*truncated"),
        (resize("samples-00000.idx", 20), "20 bytes are too few for a header"),
        (resize("samples-00000.idx", 100), "announces 130 bytes.*the file has 100"),
        (resize("samples-00000.idx", 0), "0 bytes are too few"),
        (resize("samples-00000.bin", 36), r"take 40 bytes, but the \.bin file has 36"),
        (resize("samples-00000.bin", 42), r"take 40 bytes, but the \.bin file has 42"),
        (resize("samples-00001.bin", 0), r"samples-00001\.idx.*take 8 bytes, but the \.bin file has 0"),
        (patch_idx(0, b"X"), "magic"),
        (patch_idx(9, b"\x02"), "version 2 at 9"),
        (patch_idx(17, b"\x08"), "element type 8 at 17"),
        (patch_idx(18, struct.pack("<Q", 2**63)), "announces"),
        (patch_idx(26, struct.pack("<Q", 2**64 - 1)), "announces"),
        (patch_idx(34, struct.pack("<i", -3)), "sequence 0 has a length of -3"),
        (patch_idx(34, struct.pack("<i", 0)), "sequence 0 has a length of 0"),
        (patch_idx(34, struct.pack("<i", 2)), "sequence 1 begins at byte 12, expected 8"),
        (patch_idx(58 + 8, struct.pack("<q", 8)), "not one after the other"),
        (patch_idx(58 + 8, struct.pack("<q", -(2**63))), "not one after the other"),
        (patch_idx(106 + 8, struct.pack("<q", 3)), "document 0 does not alternate"),
        (patch_idx(106 + 8, struct.pack("<q", 0)), "document 0 does not alternate"),
        (patch_idx(106 + 8, struct.pack("<q", -2)), "document 0 does not alternate"),
        (patch_idx(106 + 16, struct.pack("<q", 10)), "do not cover"),
    ],
)
def test_damage_is_named_with_file_and_remedy(damage: Callable[[Path], Any], message: str, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "shards", FIRST, SECOND)
    ShardReader(folder)
    damage(folder)
    with pytest.raises(DataError, match=message) as error:
        ShardReader(folder)
    assert str(folder) in str(error.value)
    assert "build" in str(error.value)


@pytest.mark.parametrize("key", ["num_samples", "tokens", "trained_tokens", "stop_id", "shards", "files"])
def test_a_missing_key_is_named(key: str, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "shards", FIRST)
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest[key]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match=f"lacks {key}"):
        ShardReader(folder)


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        ShardReader(tmp_path / "none")


def test_verify_compares_hashes(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "shards", FIRST)
    path = folder / "samples-00000.bin"
    path.write_bytes(bytes(4) + path.read_bytes()[4:])
    ShardReader(folder)
    with pytest.raises(DataError, match=r"samples-00000\.bin: its content differs from its sha256"):
        ShardReader(folder, verify=True)


def test_a_negative_token_is_named_by_sample(tmp_path: Path) -> None:
    reader = ShardReader(write_folder(tmp_path / "shards", FIRST, [[[1], [-2]]]))
    with pytest.raises(DataError, match=r"samples-00001\.bin: damaged: sample 2 has a negative token id"):
        reader.fill_row([0, 2], None, 1.0)


def test_many_samples_over_several_shards(tmp_path: Path) -> None:
    """Numbers of samples and sequences that no small example reaches, against NumPy."""
    generator = np.random.default_rng(2)
    (tmp_path / "shards").mkdir()
    lengths, trained = [], []
    for number in range(3):
        num_sequences = 2 * generator.integers(1, 3, 50_000)
        of_sequence = generator.integers(1, 20, num_sequences.sum())
        write_shard(tmp_path / "shards", number, np.arange(of_sequence.sum()), of_sequence, num_sequences)
        starts = np.cumsum(num_sequences) - num_sequences
        lengths.append(np.add.reduceat(of_sequence, starts))
        trained.append(np.add.reduceat(of_sequence * (np.arange(len(of_sequence)) % 2), starts))
    seal(tmp_path / "shards")
    reader = ShardReader(tmp_path / "shards")
    assert np.array_equal(reader.lengths, np.concatenate(lengths))
    assert np.array_equal(reader.trained_tokens, np.concatenate(trained))
    for index in (0, 49_999, 50_000, 99_999, 100_000, 149_999):
        shard, place = divmod(index, 50_000)
        first = int(lengths[shard][:place].sum())
        assert reader.sample(index).tokens.tolist() == list(range(first, first + int(lengths[shard][place])))


@pytest.mark.trainer
def test_megatron_opens_the_shards(tmp_path: Path) -> None:
    """The layout that this reader takes is Megatron-Core's own, also for several turns."""
    indexed_dataset = pytest.importorskip("megatron.core.datasets.indexed_dataset")
    reader = random_shards(tmp_path / "shards", seed=3)
    index = 0
    for shard in reader.manifest["shards"]:
        dataset = indexed_dataset.IndexedDataset(str(reader.folder / shard["prefix"]))
        starts = dataset.document_indices.tolist()
        assert len(starts) == shard["num_samples"] + 1
        for first, end in pairwise(starts):
            sequences = [dataset[i] for i in range(first, end)]
            sample = reader.sample(index)
            assert sample.tokens.tolist() == np.concatenate(sequences).tolist()
            trained = [[number % 2] * len(sequence) for number, sequence in enumerate(sequences)]
            assert sample.trained.tolist() == [flag for flags in trained for flag in flags]
            index += 1
    assert index == len(reader) == 26
