"""The graders' tables: what counts as the answer, what is right, and what must never be executed or hang."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from evals.graders.countdown import CountdownGrader
from evals.graders.exact import ExactGrader
from evals.graders.mathematics import MathGrader, MathPaperGrader
from evals.graders.registry import choose_grader
from evals.graders.verdict import final_part
from evals.items import Item
from megatron_sft.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "prompt_opens_think", "expected"),
    [
        (r"\boxed{1}", False, r"\boxed{1}"),
        ("<think>\n1\n</think>\n\n2", False, "\n\n2"),
        ("<think>a</think>b<think>c</think>d", False, "d"),
        (r"<think> \boxed{1}", False, None),
        (r"<think>a</think>b<think>\boxed{1}", False, None),
        (r"so it is \boxed{1}", True, None),
        ("so</think>2", True, "2"),
        ("", False, ""),
    ],
)
def test_the_answer_is_taken_after_the_last_closed_trace(
    text: str, prompt_opens_think: bool, expected: str | None
) -> None:
    assert final_part(text, prompt_opens_think=prompt_opens_think) == expected


@pytest.mark.parametrize(
    ("final", "answer", "correct"),
    [
        (r"\boxed{423}", "423", True),
        (r"first \boxed{1}, rather \boxed{ 42 3 }", "423", True),
        (r"\boxed{0283}", "0283", True),
        (r"\boxed{283}", "0283", False),
        (r"\boxed{424}", "423", False),
        (r"\boxed{423", "423", False),
        (r"\boxed{}", "423", False),
        ("423", "423", False),
    ],
)
def test_exact_grader(final: str, answer: str, correct: bool) -> None:
    assert ExactGrader().grade(final, answer).correct is correct


def test_exact_grader_does_not_decide_about_an_item_of_another_kind() -> None:
    assert ExactGrader().grade(r"\boxed{1}", {"numbers": [1], "target": 1}).correct is None


FOUR = {"numbers": [3, 5, 7, 25], "target": 42}


@pytest.mark.parametrize(
    ("boxed", "correct"),
    [
        ("25+7+5+3", False),
        ("25+3*7-5+1", False),
        ("25+7*3-5+1-1", False),
        ("(25-7)*3-5", False),
        ("25*3-5*7+2", False),
        ("5*7+25-3", False),
        ("(25+3*5+7)-5", False),
        ("25+(5*7-3*6)", False),
        ("42", False),
        ("", False),
        ("25+5*3+7-5", False),
        ("(3+25)*(7-5)-14", False),
        ("7*(25+5)/(3+2)", False),
        ("7*(25+5)/5", False),
    ],
)
def test_countdown_refuses_wrong_expressions(boxed: str, correct: bool) -> None:
    assert CountdownGrader().grade(f"\\boxed{{{boxed}}}", FOUR).correct is correct


@pytest.mark.parametrize(
    ("boxed", "numbers", "target"),
    [
        ("2+3", [2, 3], 5),
        ("(1+2)*(3+4)", [1, 2, 3, 4], 21),
        ("8/(3-8/3)", [8, 3, 8, 3], 24),
        ("10 / (17 - 15)", [15, 17, 10], 5),
        ("3-5", [3, 5], -2),
    ],
)
def test_countdown_accepts_in_exact_rationals(boxed: str, numbers: list[int], target: int) -> None:
    grader = CountdownGrader()
    assert grader.grade(f"\\boxed{{{boxed}}}", {"numbers": numbers, "target": target}).correct is True
    assert grader.grade(f"\\boxed{{{boxed}}}", {"numbers": numbers, "target": target + 1}).correct is False
    assert grader.grade(f"\\boxed{{{boxed}}}", {"numbers": [*numbers, 1], "target": target}).correct is False


def test_hostile_countdown_answers_are_wrong_at_once_and_do_nothing(tmp_path: Path) -> None:
    bait = tmp_path / "bait"
    hostile = [
        f"__import__('os').system('touch {bait}')",
        f"open('{bait}','w')",
        "9**9**9**9**9",
        "9^9^9^9",
        "exec('1')",
        "(lambda: 5)()",
        "(" * 100_000 + "5" + ")" * 100_000,
        "-" * 100_000 + "5",
        "5" * 100_000,
        "5/0",
        "5/(3-3)",
        "5e0",
        "0x5",
        "5+0j",
        "5;5",
    ]
    grader = CountdownGrader()
    began = time.perf_counter()
    for boxed in hostile:
        assert grader.grade(f"\\boxed{{{boxed}}}", {"numbers": [5], "target": 5}).correct is False, boxed[:60]
    assert time.perf_counter() - began < 5
    assert not bait.exists()


def test_countdown_item_without_numbers_is_undecided() -> None:
    assert CountdownGrader().grade(r"\boxed{5}", "5").correct is None


@pytest.fixture(scope="module")
def math_grader() -> Iterator[MathGrader]:
    pytest.importorskip("math_verify")
    grader = MathGrader(limit_s=10)
    yield grader
    grader.close()


@pytest.mark.parametrize(
    ("boxed", "answer", "correct"),
    [
        ("423", "423", True),
        (r"\frac{1}{2}", "0.5", True),
        (r"\dfrac{2}{4}", r"\frac{1}{2}", True),
        (r"2\sqrt{2}", r"\sqrt{8}", True),
        ("x^2+2x+1", "(x+1)^2", True),
        (r"\{1,2\}", r"\{2,1\}", True),
        (r"\frac{1}{3}", "0.5", False),
        (r"\sqrt{8}", r"\sqrt{7}", False),
        ("", "5", False),
    ],
)
def test_math_grader(math_grader: MathGrader, boxed: str, answer: str, correct: bool) -> None:
    assert math_grader.grade(f"\\boxed{{{boxed}}}", answer).correct is correct


def test_math_grader_without_a_box_is_wrong(math_grader: MathGrader) -> None:
    assert math_grader.grade("it is 5", "5").correct is False


def test_the_papers_math_grader_reads_traces_too() -> None:
    grader = MathPaperGrader(limit_s=10)
    assert grader.reads_trace
    try:
        assert grader.grade(r"<think>It is \boxed{5}, or is it", "5").correct is True
        assert grader.grade(r"<think>It is \boxed{5}.</think> \boxed{6}", "5").correct is False
        assert grader.grade("<think>5</think> 5", "5").reason == "no_boxed_answer"
    finally:
        grader.close()


def test_math_grader_cuts_hostile_answers_off_and_goes_on() -> None:
    pytest.importorskip("math_verify")
    grader = MathGrader(limit_s=1.5)
    try:
        # Started and warm, so that only the limit counts.
        assert grader.grade(r"\boxed{2\sqrt{2}}", r"\sqrt{8}").correct in (True, None)
        for boxed in ("9^{9^{9^{9^{9}}}}", "1000000000!", "__import__('os').system('true')"):
            began = time.perf_counter()
            assert grader.grade(f"\\boxed{{{boxed}}}", r"\sqrt{7}").correct is not True, boxed
            assert time.perf_counter() - began < 60, boxed
        assert grader.grade(r"\boxed{\frac{1}{2}}", "0.5").correct is True
    finally:
        grader.close()


def test_the_grader_fits_the_answers_unless_chosen() -> None:
    def items(answer: object) -> list[Item]:
        return [Item(id="a", messages=[{"role": "user", "content": "?"}], answer=answer)]

    assert choose_grader("addition", items("5"), {}) == "exact"
    assert choose_grader("anything", items(FOUR), {}) == "countdown"
    assert choose_grader("aime24", items("5"), {}) == "math"
    assert choose_grader("addition", items("5"), {"addition": "math"}) == "math"
    with pytest.raises(ConfigError, match="no grader 'eval'"):
        choose_grader("addition", items("5"), {"addition": "eval"})
