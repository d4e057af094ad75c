"""Answers of procedural problems: which texts are the same answer, and that nothing is evaluated."""

import time
from pathlib import Path

import pytest

from evals.graders.form import FormGrader


@pytest.mark.parametrize(
    ("form", "answer", "right", "wrong"),
    [
        (
            "integer",
            "-1234",
            [r"-1,234", "-1234.", r"\text{-1234}", "-1{,}234", "- 1234"],
            ["1234", "-12,34", "-1234.0"],
        ),
        ("integer", "0", ["-0", "00", "+0"], ["", "O", "0x0", "1-1", "\u0660"]),
        ("fraction", "3/4", ["3/4", r"\frac{3}{4}", r"\dfrac{3}{4}", "3 / 4"], ["6/8", "-3/4", "0.75", "3/4/1"]),
        (
            "factors",
            "2 \u00d7 2 \u00d7 5",
            [r"2 \times 2 \times 5", "5*2*2", "2 x 5 x 2"],
            ["2*10", "2*2*5*1", "20", "2**2*5"],
        ),
        ("word", "mother-in-law", ["Mother-in-law", r"\text{mother-in-law}"], ["mother", "law"]),
        ("word", "Friday", ["friday", r"\textbf{Friday}."], ["Fri"]),
        ("exact_word", "ainomma", ["ainomma"], ["Ainomma", "ammonia"]),
        (
            "exact_words",
            "They, WARRANTY, niggle",
            ["They,WARRANTY, niggle"],
            ["they, WARRANTY, niggle", "They, WARRANTY"],
        ),
        ("numbers", "['67.1', '61.0', '-81.7']", ["67.1, 61, -81.70", "['67.1', '61', '-81.7']"], ["61, 67.1, -81.7"]),
        (
            "roles",
            "Ann is a hero, and Bob is an ogre.",
            ["Bob is an ogre, and Ann is a hero", r"\text{Ann is a hero and Bob is a ogre.}"],
            ["Ann is a hero", "Ann is a hero, and Ann is a hero, and Bob is an ogre", "Ann: hero, Bob: ogre"],
        ),
    ],
)
def test_forms(form: str, answer: str, right: list[str], wrong: list[str]) -> None:
    grader, item = FormGrader(), {"form": form, "answer": answer}
    assert [text for text in right if not grader.grade(f"\\boxed{{{text}}}", item).correct] == []
    assert [text for text in wrong if grader.grade(f"\\boxed{{{text}}}", item).correct is not False] == []
    assert grader.grade(answer, item).reason == "no_boxed_answer"


def test_reasons() -> None:
    grader = FormGrader()
    item = {"form": "integer", "answer": "5"}
    assert grader.grade(r"\boxed{6}", item).reason == "wrong_answer: '6' is not '5'"
    assert grader.grade(r"\boxed{six}", item).reason == "wrong_form: 'six' is not of the form integer"
    assert grader.grade(r"\boxed{5}", {"form": "integer", "answer": "five"}).correct is None
    assert grader.grade(r"\boxed{5}", {"form": "poem", "answer": "5"}).correct is None
    assert grader.grade(r"\boxed{5}", "5").correct is None


def test_hostile_answers_are_wrong_at_once_and_do_nothing(tmp_path: Path) -> None:
    bait = tmp_path / "bait"
    began = time.perf_counter()
    for text in (
        f"__import__('os').system('touch {bait}')",
        "9**9**9**9",
        "5" * 5_000,
        "{" * 900 + "5" + "}" * 900,
        "5" * 10**7,
    ):
        for form, answer in (
            ("integer", "5"),
            ("numbers", "5"),
            ("roles", "A is a b"),
            ("factors", "5"),
            ("fraction", "1/5"),
        ):
            assert FormGrader().grade(f"\\boxed{{{text}}}", {"form": form, "answer": answer}).correct is False
    assert time.perf_counter() - began < 10
    assert not bait.exists()
