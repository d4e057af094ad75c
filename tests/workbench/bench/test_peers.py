"""The peers write what the table says that they write."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from megatron_sft.data.build_shards import BuildShardsConfig
from megatron_sft.data.build_shards import main as build_shards
from megatron_sft.data.shards import ShardReader
from megatron_sft.workbench.bench import peers
from megatron_sft.workbench.bench.corpus import make_corpus


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("corpus") / "rows.jsonl"
    make_corpus(path, 0.1, seed=0)
    return path


def test_index_of_two_sequences_a_document(tmp_path: Path) -> None:
    peers.write_index(tmp_path / "samples.idx", [2, 2, 1, 3], 2)
    content = (tmp_path / "samples.idx").read_bytes()
    # The worked example of docs/shard-format.md.
    assert len(content) == 106
    assert np.frombuffer(content[34:50], np.int32).tolist() == [2, 2, 1, 3]
    assert np.frombuffer(content[50:82], np.int64).tolist() == [0, 8, 16, 20]
    assert np.frombuffer(content[82:], np.int64).tolist() == [0, 2, 4]


def test_script_writes_the_ids_that_build_shards_writes(corpus: Path, tiny_tokenizer: Path, tmp_path: Path) -> None:
    pytest.importorskip("fastokens")
    pytest.importorskip("orjson")
    counted = peers.script(corpus, str(tiny_tokenizer / "tokenizer.json"), tmp_path / "samples", 1, 3)
    config = BuildShardsConfig(
        inputs=(str(corpus),), output=tmp_path / "out", tokenizer=tiny_tokenizer, max_length=10**6
    )
    build_shards(config)
    reader = ShardReader(tmp_path / "out")
    samples = [reader.sample(i).tokens for i in range(reader.num_samples)]
    assert np.fromfile(tmp_path / "samples.bin", np.int32).tolist() == np.concatenate(samples).tolist()
    assert counted["tokens"] == reader.lengths.sum() > 1000


@pytest.mark.trainer
def test_megatron_writes_with_the_builder_of_megatron_core(corpus: Path, tiny_tokenizer: Path, tmp_path: Path) -> None:
    counted = run_megatron(corpus, tiny_tokenizer, tmp_path)
    assert counted["writer"] == "CoreWriter"


def test_megatron_writes_one_document_a_row(
    corpus: Path, tiny_tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "_indexed_dataset_writer", peers.NumpyWriter)
    counted = run_megatron(corpus, tiny_tokenizer, tmp_path)
    assert counted["writer"] == "NumpyWriter"


def run_megatron(corpus: Path, tokenizer: Path, tmp_path: Path) -> dict[str, Any]:
    """Run the peer, and compare its ids with those of documents tokenized one by one."""
    counted = peers.megatron(corpus, str(tokenizer / "tokenizer.json"), tmp_path / "samples", 2, 2)
    plain = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
    expected = []
    for line in corpus.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        prompt = f"<|im_start|>user\n{row['message'][0]['content']}<|im_end|>\n<|im_start|>assistant\n"
        expected.append(plain.encode(prompt + row["response"] + "<|im_end|>", add_special_tokens=False).ids)
    assert len(expected) > 2
    assert np.fromfile(tmp_path / "samples.bin", np.int32).tolist() == [i for ids in expected for i in ids]
    index = (tmp_path / "samples.idx").read_bytes()
    lengths = [len(ids) for ids in expected]
    assert np.frombuffer(index[34 : 34 + 4 * len(lengths)], np.int32).tolist() == lengths
    assert counted["tokens"] == sum(lengths)
    return counted
