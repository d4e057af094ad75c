"""The shards that `bench loader` makes up are shards."""

from pathlib import Path

from megatron_sft.data.shards import ShardReader
from megatron_sft.workbench.bench import loader


def test_made_up_shards_open_and_give_rows(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(loader, "SAMPLES_PER_SHARD", 2000)
    loader.write_shards(tmp_path / "shards", 5000)
    reader = ShardReader(tmp_path / "shards")
    assert len(reader) == 5000
    assert len(reader.manifest["shards"]) == 3
    assert int(reader.trained_tokens.sum()) == int(reader.lengths.sum()) - 5000 * loader.PROMPT_TOKENS
    row = reader.fill_row([0, 4999], None, 1.0)
    assert row.num_real_tokens == int(reader.lengths[[0, 4999]].sum())


def test_every_figure_has_its_line(tmp_path: Path, capsys):
    config = loader.BenchLoaderConfig(num_samples=3000, global_batch_size=16, num_iterations=2, dp_size=2)
    loader.run(config)
    lines = capsys.readouterr().out
    for words in ("open, with both", "shuffle an epoch", "plan an iteration of 16", "fill the rows", "3,000 samples"):
        assert words in lines, words
