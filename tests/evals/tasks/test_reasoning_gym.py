"""Benchmarks drawn from reasoning-gym: repeatable, and graded without its scorers."""

from pathlib import Path

import pytest

from evals.graders.registry import builtin_graders
from evals.tasks.benchmark import Row
from evals.tasks.load import load_benchmark
from evals.tasks.reasoning_gym import BENCHMARKS, FAMILIES
from megatron_sft.backends import import_reasoning_gym
from megatron_sft.errors import DataError

try:
    import_reasoning_gym()
except ImportError:
    pytest.skip("reasoning-gym is not installed", allow_module_level=True)

BY_NAME = {benchmark.name: benchmark for benchmark in BENCHMARKS}
BOX = "\nPlease reason step by step, and put your final answer within \\boxed{}."
NO_DATA = Path("no-such-folder")


@pytest.mark.parametrize("name", [name for name in BY_NAME if name != "rg_countdown"])
def test_the_familys_own_answer_is_right_and_another_items_is_not(name: str) -> None:
    benchmark = BY_NAME[name]
    items = load_benchmark(benchmark, NO_DATA, limit=60, seed=3)
    grader = builtin_graders()[benchmark.grader]()
    assert [item.id for item in items] == [str(number) for number in range(60)]
    num_wrong = 0
    for item, other in zip(items, [*items[1:], items[0]], strict=True):
        assert item.messages[0]["content"].endswith(BOX)
        answer = item.answer["answer"]
        assert grader.grade(f"So \\boxed{{{answer}}}", item.answer).correct is True, answer
        verdict = grader.grade(f"So \\boxed{{{other.answer['answer']}}}", item.answer)
        assert verdict.correct is (True if other.answer["answer"] == answer else verdict.correct)
        assert verdict.correct is not None
        num_wrong += not verdict.correct
    assert num_wrong > 10


def test_countdown_is_asked_in_our_words_and_verified_by_us() -> None:
    items = load_benchmark(BY_NAME["rg_countdown"], NO_DATA, limit=20)
    rows = FAMILIES[[family.name for family in FAMILIES].index("countdown")].make_rows(20, 0)
    grader = builtin_graders()["countdown"]()
    num_right = 0
    for row, item in zip(rows, items, strict=True):
        assert "at most once" not in item.messages[0]["content"]
        answer = row.fields["answer"]
        # The verifier's expressions have no sign: -2 + 5 is written 5 - 2.
        if not answer.startswith("-") and "(-" not in answer:
            assert grader.grade(f"\\boxed{{{answer}}}", item.answer).correct is True
            num_right += 1
        hostile = "\\boxed{__import__('os').getpid()}"
        assert grader.grade(hostile, item.answer).correct is False
    assert num_right > 10


@pytest.mark.parametrize("name", ["rg_chain_sum", "rg_knights_knaves", "rg_word_sorting"])
def test_a_smaller_size_gives_the_first_of_the_same_items(name: str) -> None:
    large, small = (load_benchmark(BY_NAME[name], NO_DATA, limit=limit, seed=5) for limit in (30, 10))
    assert large[:10] == small
    assert load_benchmark(BY_NAME[name], NO_DATA, limit=10, seed=6) != small


def test_names_and_groups() -> None:
    assert len(BY_NAME) == len(FAMILIES) >= 20
    assert {benchmark.group for benchmark in BENCHMARKS} == {"in-domain", "out-of-domain"}
    assert len(load_benchmark(BY_NAME["rg_gcd"], NO_DATA)) == BY_NAME["rg_gcd"].default_size


def test_rows_of_another_form_are_named() -> None:
    with pytest.raises(DataError, match="drawn, row 1: expected `metadata` with numbers and target"):
        BY_NAME["rg_countdown"].read([Row(fields={"question": "?", "answer": "1"}, where="drawn, row 1")], set())
