"""Packing keeps every sample whole and exactly once, fills rows well, and deals rows of near equal cost."""

import threading
import time

import numpy as np
import pytest

from megatron_sft.data.packing import PackedRows, RowCost, pack_rows, plan_rows
from megatron_sft.errors import DataError
from megatron_sft.workbench.bench.packing import trace_lengths

COST = RowCost(hidden_size=64)


def slow_best_fit(lengths, capacity):
    """Best fit decreasing by its definition: the number of rows."""
    rooms = []
    for length in sorted(lengths, reverse=True):
        fitting = [room for room in rooms if room >= length]
        if fitting:
            rooms.remove(min(fitting))
            rooms.append(min(fitting) - length)
        else:
            rooms.append(capacity - length)
    return len(rooms)


def flat(plan):
    return sorted(position for rank in plan for row in rank for position in row)


def check(packed: PackedRows, lengths, capacity):
    lengths = np.asarray(lengths)
    assert (packed.order.dtype, packed.row_starts.dtype) == (np.int64, np.int64)
    assert np.array_equal(np.sort(packed.order), np.arange(len(lengths)))
    assert packed.row_starts[0] == 0
    assert packed.row_starts[-1] == len(lengths)
    assert (np.diff(packed.row_starts) > 0).all()
    assert np.add.reduceat(lengths[packed.order], packed.row_starts[:-1]).max() <= capacity


def test_best_fit_fills_the_fullest_row_that_has_room():
    # 6 opens a row (room 4), 5 opens another (room 5); 4 fits best into the first; 3 and 2 go to the second.
    packed = pack_rows([2, 3, 4, 5, 6], 10)
    assert [packed.row(k).tolist() for k in range(len(packed))] == [[0, 1, 3], [2, 4]]
    with pytest.raises(IndexError, match="row 2 of 2"):
        packed.row(2)


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint16, list])
def test_never_more_rows_than_best_fit_decreasing(dtype):
    generator = np.random.default_rng(0)
    num_improved = 0
    for trial in range(100):
        capacity = int(generator.integers(50, 500))
        lengths = generator.integers(1, capacity * 2 // 3, generator.integers(1, 80))
        given = lengths.tolist() if dtype is list else lengths.astype(dtype)
        packed = pack_rows(given, capacity, seed=trial if trial % 2 else None)
        check(packed, lengths, capacity)
        slow = slow_best_fit(lengths.tolist(), capacity)
        assert -(-lengths.sum() // capacity) <= len(packed) <= slow
        num_improved += len(packed) < slow
    assert num_improved > 5


@pytest.mark.parametrize("sigma", [0.6, 0.8])
def test_batches_of_256_traces_are_filled(sigma):
    lengths = trace_lengths(20_480, sigma=sigma, seed=1)
    rows = [pack_rows(lengths[start : start + 256], 20_480) for start in range(0, 20_480, 256)]
    assert lengths.sum() / (sum(len(packed) for packed in rows) * 20_480) > 0.985


def test_a_million_samples_take_a_fraction_of_a_second():
    lengths = trace_lengths(1_000_000, sigma=0.7, seed=2)
    start = time.process_time()
    packed = pack_rows(lengths, 20_480, seed=0)
    assert time.process_time() - start < 1.0
    check(packed, lengths, 20_480)
    assert lengths.sum() / (len(packed) * 20_480) > 0.995


def test_a_seed_decides_the_rows():
    lengths = trace_lengths(3_000, sigma=0.7, seed=3)
    first, again, other, plain = (pack_rows(lengths, 20_480, seed=seed) for seed in (1, 1, 2, None))
    assert first.order.tolist() == again.order.tolist()
    assert first.order.tolist() != other.order.tolist()
    assert plain.order[0] == 0, "without a seed, rows stand in the order of their first samples"
    longest = np.maximum.reduceat(lengths[first.order], first.row_starts[:-1])
    assert abs(np.corrcoef(longest, np.arange(len(longest)))[0, 1]) < 0.1


def test_packing_lets_other_threads_run():
    lengths = trace_lengths(1_000_000, sigma=0.7, seed=4)
    packed: list[PackedRows] = []
    thread = threading.Thread(target=lambda: packed.append(pack_rows(lengths, 20_480)))
    thread.start()
    num_turns = 0
    while not packed:
        num_turns += 1
        time.sleep(0.001)
    thread.join()
    assert num_turns > 5


def test_every_sample_is_in_exactly_one_row_and_no_row_overflows():
    generator = np.random.default_rng(0)
    for trial in range(200):
        lengths = generator.integers(1, 101, generator.integers(1, 61)).tolist()
        dp_size = int(generator.choice([1, 2, 3, 4]))
        plan = plan_rows(lengths, 100, dp_size, COST).ranks
        assert flat(plan) == list(range(len(lengths))), trial
        assert len(plan) == dp_size
        assert len({len(rank) for rank in plan}) == 1
        assert all(sum(lengths[position] for position in row) <= 100 for rank in plan for row in rank)


def test_extra_rows_take_samples_rather_than_stay_empty():
    plan = plan_rows([10] * 8, 100, 2, COST)
    assert plan.row_lengths == [[40], [40]]
    assert [[len(row) for row in rank] for rank in plan.ranks] == [[4], [4]]


def test_a_rank_without_samples_gets_an_empty_row():
    assert plan_rows([10], 100, 2, COST).ranks == [[[0]], [[]]]


@pytest.mark.parametrize("dp_size", [2, 8, 16])
def test_ranks_get_near_equal_cost(dp_size):
    cost = RowCost(hidden_size=1024)
    lengths = trace_lengths(256, sigma=0.8, seed=5)
    plan = plan_rows(lengths, 20_480, dp_size, cost, length_multiple=128)
    totals = [sum(cost(lengths[row].tolist()) for row in rank) for rank in plan.ranks]
    assert max(totals) / (sum(totals) / len(totals)) < 1.02
    assert all(cost(lengths[rank[0]].tolist()) >= cost(lengths[rank[-1]].tolist()) for rank in plan.ranks)
    row_lengths = [length for rank in plan.row_lengths for length in rank]
    assert all(length % 128 == 0 and length <= 20_480 for length in row_lengths)
    assert lengths.sum() / plan.num_places > 0.985


def test_no_samples_no_rows():
    assert plan_rows([], 100, 2, COST).ranks == [[], []]
    assert len(pack_rows(np.empty(0, dtype=np.int32), 100)) == 0


def test_a_sample_that_no_row_can_hold_is_named():
    with pytest.raises(DataError, match=r"sample 1 .* 101 tokens, --seq-length is 100: raise it"):
        plan_rows([5, 101], 100, 1, COST)
    with pytest.raises(DataError, match=r"sample 2 of the data has 9223372036854775807 tokens"):
        pack_rows([5, 5, 2**63 - 1], 100)
    for length in (0, -1):
        with pytest.raises(DataError, match=rf"sample 0 of the data has {length} tokens.*build the shards again"):
            pack_rows([length], 100)
    for seq_length in (0, -5, 2**24 + 1):
        with pytest.raises(DataError, match=rf"--seq-length {seq_length}: choose 1 to 16777216"):
            pack_rows([1], seq_length)


@pytest.mark.parametrize("lengths", [[1.5], ["a"], [[1, 2]], [2**63]])
def test_lengths_that_are_no_integers_are_a_type_error(lengths):
    with pytest.raises(TypeError):
        pack_rows(lengths, 100)


def test_few_rows_a_rank_are_balanced_by_samples():
    # Rows of 100 and 60 + 40: as rows they would be 100 + 20 against 60 + 40.
    lengths = [100, 60, 40, 20]
    plan = plan_rows(lengths, 100, 2, COST)
    assert sorted(sum(lengths[i] for row in rank for i in row) for rank in plan.ranks) == [100, 120]
    lengths = trace_lengths(256, sigma=0.7, seed=3)
    cost = RowCost(hidden_size=4096)
    totals = [sum(cost(lengths[row].tolist()) for row in rank) for rank in plan_rows(lengths, 20_480, 64, cost).ranks]
    assert max(totals) / np.mean(totals) < 1.06, "dealing whole rows gives 1.14 on average"


def test_rows_of_equal_length_have_that_of_the_longest():
    plan = plan_rows([5, 3, 9], 16, 1, COST, length_multiple=4, equal_lengths=True)
    assert {length for rank in plan.row_lengths for length in rank} == {12}
    assert plan_rows([], 100, 2, COST, length_multiple=4).num_places == 0
