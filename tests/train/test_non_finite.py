"""A loss that is not finite on one rank stops all of them, and its sample is named."""

import json
import re
import shutil

import pytest
from tokenizers import Tokenizer

pytest.importorskip("megatron.core")

from megatron_sft.data import build_shards
from megatron_sft.data.shards import ShardReader
from megatron_sft.model import checkpoint_dir
from tests.train.harness import BATCH, read_metrics

pytestmark = [pytest.mark.trainer, pytest.mark.slow]


SAMPLE = 5
"""The only one with an @."""


@pytest.fixture
def poisoned(world, tmp_path):
    """Options for a model to which an @ is not a number, and for data with one."""
    import torch
    import transformers

    rows = [json.loads(line) for line in world.rows.read_text().splitlines()[:BATCH]]
    rows[SAMPLE]["message"][0]["content"] += " @"
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    build = {"output": tmp_path / "shards", "tokenizer": world.tokenizer, "max_length": 160}
    build_shards.main(build_shards.BuildShardsConfig(inputs=(str(path),), **build))
    [token] = Tokenizer.from_file(str(world.tokenizer / "tokenizer.json")).encode("@", add_special_tokens=False).ids
    reader = ShardReader(tmp_path / "shards")
    assert [index for index in range(BATCH) if token in reader.sample(index).tokens] == [SAMPLE]

    config = transformers.AutoConfig.from_pretrained(world.model)
    # An output layer of its own: through a tied one every sample would see the token.
    config.tie_word_embeddings = False
    torch.manual_seed(0)
    model = transformers.Qwen3ForCausalLM(config)
    with torch.no_grad():
        model.model.embed_tokens.weight[token] = float("nan")
    model.save_pretrained(tmp_path / "model")
    for file in world.tokenizer.iterdir():
        shutil.copy(file, tmp_path / "model")
    return ["--init-from", str(tmp_path / "model"), "--data", str(tmp_path / "shards")]


def test_one_bad_sample_is_named_with_its_rank_by_every_rank(train, poisoned, tmp_path):
    result = train(tmp_path / "run", *poisoned, num_processes=2, check=False)
    assert result.returncode != 0
    found = re.findall(r"iteration 1, rank (\d): loss nan, .*; rank (\d): samples \[([\d, ]+)\]", result.stderr)
    assert found, result.stderr[-3000:]
    # One rank has the sample; whoever speaks first says the same.
    assert len(set(found)) == 1
    assert found[0][0] == found[0][1]
    assert found[0][2] == str(SAMPLE)
    assert read_metrics(tmp_path / "run") == []
    assert checkpoint_dir.list_complete(tmp_path / "run") == []


def test_the_rank_named_is_one_that_has_the_loss(train, poisoned, tmp_path):
    """The first stages of a pipeline never see one."""
    options = [*poisoned, "--pipeline-model-parallel-size", "2"]
    result = train(tmp_path / "run", *options, num_processes=4, check=False)
    assert result.returncode != 0
    found = re.search(r"iteration 1, rank (\d): loss nan, .*; rank (\d): samples \[(\d+)\]", result.stderr)
    assert found, result.stderr[-3000:]
    assert found[3] == str(SAMPLE)
    # Ranks 2 and 3 hold the last stage.
    assert found[1] == found[2] and int(found[1]) >= 2
