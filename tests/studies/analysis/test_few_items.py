from statistics import NormalDist

import pytest

from megatron_sft.studies.analysis.few_items import effective_items, student, tails, widened


@pytest.mark.parametrize(("freedom", "table"), [(9, 2.262), (29, 2.045), (100, 1.984)])
def test_quantiles_are_those_of_students_table(freedom: int, table: float) -> None:
    assert student(1.959964, freedom) == pytest.approx(table, abs=5e-3)


def test_percentiles_of_few_items_are_moved_out() -> None:
    assert tails(0.95, None) == pytest.approx([0.025, 0.975])
    # 29 degrees of freedom: Student's quantile 2.0452, times sqrt(30 / 29).
    assert tails(0.95, 30) == pytest.approx([NormalDist().cdf(-2.0801), NormalDist().cdf(2.0801)], abs=1e-5)
    assert tails(0.95, 10_000) == pytest.approx([0.025, 0.975], abs=1e-4)
    assert widened(3.0, None) == 3.0


def test_a_sum_is_worth_what_its_largest_part_is() -> None:
    assert effective_items([(4.0, 30)]) == pytest.approx(30)
    assert effective_items([(1.0, 30), (1.0, 30)]) == pytest.approx(59)
    assert effective_items([(1.0, 30), (0.0, 500)]) == pytest.approx(30)
    assert effective_items([(1.0, None), (1.0, None)]) is None
    # (1 + 1)^2 / (1 / 29).
    assert effective_items([(1.0, 30), (1.0, None)]) == pytest.approx(117)
