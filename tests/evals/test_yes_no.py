"""Which of yes and no a response ends with."""

import pytest

from evals.graders.yes_no import YesNoGrader


@pytest.mark.parametrize(
    ("final", "answer", "correct"),
    [
        ("Yes", "Yes", True),
        ("No", "No", True),
        ("Yes.", "No", False),
        ("\n\n**No**", "No", True),
        (r"\boxed{\text{Yes}}", "Yes", True),
        ("No, wait. YES", "Yes", True),
        ("It is not. I know nothing of it. Yes, yesterday.", "Yes", True),
        ("Nothing known", "No", False),
        ("", "No", False),
    ],
)
def test_the_last_of_the_two_words_counts(final: str, answer: str, correct: bool) -> None:
    assert YesNoGrader().grade(final, answer).correct is correct


def test_reasons() -> None:
    grader = YesNoGrader()
    assert grader.grade("Maybe", "No").reason == "no_yes_or_no"
    assert grader.grade("Yes", "No").reason == "wrong_answer: Yes is not No"
    assert grader.grade("Yes", True).correct is None
