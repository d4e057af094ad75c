"""Packing keeps every sample whole and exactly once, and deals rows of near equal cost."""

import random

import pytest

from megatron_sft.data.packing import RowCost, best_fit, plan_rows, spread
from megatron_sft.errors import DataError

COST = RowCost(hidden_size=64)


def flat(plan):
    return sorted(position for rank in plan for row in rank for position in row)


def test_best_fit_fills_the_fullest_row_that_has_room():
    # 6 opens row 0 (room 4), 5 opens row 1 (room 5); 4 fits best into row 0; 3 goes to row 1.
    assert best_fit([2, 3, 4, 5, 6], 10) == [[4, 2], [3, 1, 0]]


def test_every_sample_is_in_exactly_one_row_and_no_row_overflows():
    generator = random.Random(0)
    for trial in range(200):
        lengths = [generator.randint(1, 100) for _ in range(generator.randint(1, 60))]
        dp_size = generator.choice([1, 2, 3, 4])
        plan = plan_rows(lengths, 100, dp_size, COST)
        assert flat(plan) == list(range(len(lengths))), trial
        assert len({len(rank) for rank in plan}) == 1
        assert all(sum(lengths[position] for position in row) <= 100 for rank in plan for row in rank)


def test_extra_rows_take_samples_rather_than_stay_empty():
    plan = plan_rows([10] * 8, 100, 2, COST)
    assert [[len(row) for row in rank] for rank in plan] == [[4], [4]]


def test_a_rank_without_samples_gets_an_empty_row():
    assert plan_rows([10], 100, 2, COST) == [[[0]], [[]]]


def test_ranks_get_near_equal_cost():
    cost = RowCost(hidden_size=1024)
    generator = random.Random(1)
    lengths = [int(generator.lognormvariate(6, 0.8)) % 4000 + 1 for _ in range(256)]
    plan = plan_rows(lengths, 4096, 8, cost)
    totals = [sum(cost([lengths[position] for position in row]) for row in rank) for rank in plan]
    assert max(totals) / (sum(totals) / len(totals)) < 1.1


def test_spread_gives_up_rather_than_overflow():
    assert spread([6, 6, 6], 10, 2, COST) is None


def test_a_sample_longer_than_a_row_is_named():
    with pytest.raises(DataError, match=r"sample 1 .* 101 tokens, --seq-length is 100"):
        plan_rows([5, 101], 100, 1, COST)
