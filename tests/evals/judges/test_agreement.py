"""Agreement of two judges against values computed by hand."""

import pytest

from evals.judges.agreement import agreement


def named(values: list) -> dict:
    return {f"q{number}": value for number, value in enumerate(values)}


def test_yes_and_no() -> None:
    # Both yes 20, first only 5, second only 10, both no 15: raw 35/50; by chance 0.5 * 0.6 + 0.5 * 0.4 = 0.5.
    first = named([True] * 20 + [True] * 5 + [False] * 10 + [False] * 15)
    second = named([True] * 20 + [False] * 5 + [True] * 10 + [False] * 15)
    found = agreement(first, second, [False, True])
    assert found.num == 50
    assert found.raw == pytest.approx(0.7)
    assert found.kappa == pytest.approx(0.4)
    # With two categories, the weights change nothing.
    assert found.weighted_kappa == pytest.approx(0.4)
    assert found.confusion == [[15, 10], [5, 20]]


def test_a_scale() -> None:
    # Pairs (1,1) (2,3) (3,3) (5,1). First: 1, 2, 3, 5 once each; second: 1 twice, 3 twice.
    found = agreement(named([1, 2, 3, 5]), named([1, 3, 3, 1]), [1, 2, 3, 4, 5])
    assert found.raw == pytest.approx(0.5)
    # Chance: 1/4 * 1/2 for 1 and for 3.
    assert found.kappa == pytest.approx((0.5 - 0.25) / 0.75)
    # Squared differences: 0 + 1 + 0 + 16 = 17; by chance, each first value meets 1 and 3 half of the time:
    # 1: (0 + 4) / 2, 2: (1 + 1) / 2, 3: (4 + 0) / 2, 5: (16 + 4) / 2, together 15.
    assert found.weighted_kappa == pytest.approx(1 - 17 / 15)
    # Ranks 1, 2, 3, 4 and 1.5, 3.5, 3.5, 1.5: the deviations' products are 1.5 - 0.5 + 0.5 - 1.5 = 0.
    assert found.spearman == pytest.approx(0.0)
    assert found.confusion[1] == [0, 0, 1, 0, 0]
    assert sum(map(sum, found.confusion)) == 4


def test_ranks_share_ties() -> None:
    # Ranks 1, 2.5, 2.5, 4 and 1, 2, 3, 4: 4.5 over the root of 4.5 * 5.
    found = agreement(named([1, 2, 2, 5]), named([1, 2, 3, 4]), [1, 2, 3, 4, 5])
    assert found.spearman == pytest.approx(4.5 / (4.5 * 5) ** 0.5)


def test_only_common_questions_count() -> None:
    found = agreement({"a": 1, "b": 2, "c": 5}, {"b": 2, "c": 5, "d": 1, "e": 1}, [1, 2, 3, 4, 5])
    assert (found.num, found.num_only_first, found.num_only_second) == (2, 1, 2)
    assert (found.raw, found.kappa, found.weighted_kappa, found.spearman) == (1.0, 1.0, 1.0, pytest.approx(1.0))


def test_what_is_undefined_is_none() -> None:
    alike = agreement(named([3, 3]), named([3, 3]), [1, 2, 3])
    assert (alike.raw, alike.kappa, alike.weighted_kappa, alike.spearman) == (1.0, None, None, None)
    nothing = agreement({"a": 1}, {"b": 1}, [1])
    assert (nothing.num, nothing.raw, nothing.kappa, nothing.spearman) == (0, None, None, None)
    with pytest.raises(ValueError, match="9"):
        agreement({"a": 9}, {"a": 1}, [1, 2])
