"""Rows that ranks get, and the lengths they come from."""

from pathlib import Path

import pytest

from megatron_sft.errors import ConfigError
from megatron_sft.planning.load import RankLoad, RowLoad, assumed_lengths, batches_of_shards, rank_load
from tests.data.shard_folder import write_folder


def test_one_rank_has_all_rows_and_padding_is_a_document() -> None:
    load = rank_load([6, 4, 3, 3], seq_length=10, dp=1, hidden_size=64)
    assert sorted(row.squares for row in load.rows) == [16 + 9, 36 + 9]
    assert {row.tokens for row in load.rows} == {7, 9}
    equal = rank_load([6, 4, 3, 3], seq_length=10, dp=1, hidden_size=64, equal_lengths=True)
    assert {row.tokens for row in equal.rows} == {9}, "no shorter rows hold them"
    whole = rank_load([6, 4, 3, 3], seq_length=10, dp=1, hidden_size=64, length_multiple=10)
    assert {row.tokens for row in whole.rows} == {10}


def test_of_several_ranks_the_costliest_counts() -> None:
    load = rank_load([10, 5, 5], seq_length=10, dp=2, hidden_size=64)
    assert load == RankLoad(rows=(RowLoad(tokens=10, squares=100),))


def test_rows_fill_up_to_a_multiple() -> None:
    full = RowLoad(tokens=10, squares=100)
    three = rank_load([10, 10, 10], seq_length=10, dp=1, hidden_size=64)
    assert three == RankLoad(rows=(full,) * 3)
    # The fourth row is empty: its padding is one document, and all rows are equally long.
    four = {"rows_multiple": 2, "equal_lengths": True}
    assert rank_load([10, 10, 10], seq_length=10, dp=1, hidden_size=64, **four).rows == (full,) * 4
    assert rank_load([10, 10, 10], seq_length=10, dp=1, hidden_size=64, rows_multiple=3) == three
    # Samples spread over the rows that there are anyway, as the trainer's do.
    spread = rank_load([6, 3], seq_length=10, dp=1, hidden_size=64, rows_multiple=2).rows
    assert sorted(row.squares for row in spread) == [9, 36]


@pytest.mark.parametrize(("mean", "spread"), [(8600, 0.6), (6400, 0.8), (15000, 0.7), (100, 0.0), (20480, 0.6)])
def test_assumed_lengths_have_the_mean_and_stay_in_a_row(mean: int, spread: float) -> None:
    lengths = assumed_lengths(256, mean, spread, 20480)
    assert len(lengths) == 256
    assert sum(lengths) / 256 == pytest.approx(mean, rel=0.01)
    assert 1 <= min(lengths) <= max(lengths) <= 20480
    assert (min(lengths) < max(lengths)) == (spread > 0 and mean < 20480)


def test_batches_of_shards_are_those_of_the_trainer(tmp_path: Path) -> None:
    samples = [[[1] * (1 + index), [2]] for index in range(11)]
    folder = write_folder(tmp_path / "shards", samples[:6], samples[6:])
    assert batches_of_shards(folder, 2, 20) == [[2, 3], [4, 5], [6, 7], [8, 9]]
    assert batches_of_shards(folder, 4, 20) == [[2, 3, 4, 5], [6, 7, 8, 9]]


def test_shards_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "shards", [[[1] * 8, [2]], [[1], [2]]])
    with pytest.raises(ConfigError, match=r"--seq-length 8: the longest sample of .* has 9 tokens"):
        batches_of_shards(folder, 2, 8)
    with pytest.raises(ConfigError, match="--global-batch-size 3: the data has 2 samples"):
        batches_of_shards(folder, 3, 20)
