"""Samples are told apart by the input file that they came from."""

import json

import numpy as np
import pytest

pytest.importorskip("megatron.core")

from megatron_sft.data import build_shards
from megatron_sft.data.chat import ChatTokenizer
from megatron_sft.data.shards import ShardReader
from megatron_sft.train.sources import MAX_SOURCES, sources_of

pytestmark = pytest.mark.trainer


def manifest(*inputs):
    entries = [{"name": name, "rows_kept": count} for name, count in inputs]
    return {"inputs": entries, "num_samples": sum(count for _, count in inputs)}


def test_means_are_over_the_trained_tokens_of_each_source():
    sources = sources_of(manifest(("a.jsonl", 3), ("empty.jsonl", 0), ("b.jsonl", 2), ("c.jsonl", 4)))
    assert sources is not None
    assert sources.names == ["a.jsonl", "b.jsonl", "c.jsonl"]
    samples = np.array([4, 0, 2, 3])
    assert sources.of(samples).tolist() == [1, 0, 0, 1]
    losses = sources.losses(samples, np.array([10.0, 3.0, 9.0, 2.0]), np.array([4, 1, 5, 2]))
    assert losses == {"a.jsonl": 12.0 / 6, "b.jsonl": 12.0 / 6}


def test_one_source_has_no_figure_and_neither_has_a_manifest_that_does_not_say():
    assert sources_of(manifest(("a.jsonl", 3))) is None
    assert sources_of({"num_samples": 3}) is None
    assert sources_of(manifest(("a.jsonl", 3), ("b.jsonl", 2)) | {"num_samples": 6}) is None


def test_many_files_are_grouped_by_folder_and_small_folders_are_the_rest():
    parts = [(f"math/part-{i:03}.jsonl", 10) for i in range(30)] + [(f"code/part-{i:03}.jsonl", 5) for i in range(10)]
    sources = sources_of(manifest(*parts))
    assert sources is not None
    assert sources.names == ["math", "code"]
    assert sources.of(np.array([0, 299, 300, 349])).tolist() == [0, 0, 1, 1]

    folders = [(f"{i:03}/a.jsonl", 100 - i) for i in range(MAX_SOURCES + 3)]
    sources = sources_of(manifest(*folders))
    assert sources is not None
    assert sources.names == [f"{i:03}" for i in range(MAX_SOURCES)] + ["other"]
    last = sum(count for _, count in folders) - 1
    assert sources.of(np.array([0, last])).tolist() == [0, MAX_SOURCES]


def test_names_cannot_steer_a_terminal():
    sources = sources_of(manifest(("a\x1b[2J.jsonl", 1), ("b.jsonl", 1)))
    assert sources is not None
    assert sources.names == ["a\\x1b[2J.jsonl", "b.jsonl"]


def test_built_shards_have_their_samples_in_the_order_of_the_files(world, tmp_path):
    rows = [json.loads(line) for line in world.rows.read_text().splitlines()][:6]
    inputs = []
    for name, part in (("z", rows[:4]), ("a", rows[4:])):
        marked = [{**row, "response": f"{row['response']} {name}"} for row in part]
        inputs.append(tmp_path / f"{name}.jsonl")
        inputs[-1].write_text("".join(json.dumps(row) + "\n" for row in [*marked[:1], {"no": "row"}, *marked[1:]]))
    options = {"output": tmp_path / "shards", "tokenizer": world.tokenizer, "max_length": 200}
    build_shards.main(build_shards.BuildShardsConfig(inputs=tuple(map(str, inputs)), **options))
    reader, tokenizer = ShardReader(tmp_path / "shards"), ChatTokenizer(str(world.tokenizer))
    sources = sources_of(reader.manifest)
    assert sources is not None
    assert reader.num_samples == 6
    for index, source in enumerate(sources.of(np.arange(6)).tolist()):
        sample = reader.sample(index)
        response = tokenizer.decode(sample.tokens[sample.trained == 1].tolist())
        assert response.endswith(f" {sources.names[source][0]}<|im_end|>"), index
