"""Which letter a response names: forms by hand, endings of real responses, and what the paper's code does otherwise."""

import gzip
import json
import time
from pathlib import Path
from typing import Any

import pytest

from evals.graders.choice import ChoiceGrader, GpqaPaperGrader, MmluProPaperGrader, extract_letter
from evals.graders.verdict import final_part
from megatron_sft.data.chat import last_boxed


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        (r"\boxed{C}", "C"),
        (r"\boxed{c}", "C"),
        (r"\boxed{ (C) }", "C"),
        (r"\boxed{C.}", "C"),
        (r"\boxed{C)}", "C"),
        (r"\boxed{\text{C}}", "C"),
        (r"\boxed{\textbf{(C)}}", "C"),
        (r"\boxed{\textbf{(C)}\ 12}", "C"),
        (r"\boxed{\mathrm{C}}", "C"),
        (r"\boxed{\mathbf{C}.}", "C"),
        (r"\boxed{$C$}", "C"),
        (r"\boxed{**C**}", "C"),
        (r"\boxed{C) 12 m}", "C"),
        (r"\boxed{C. foo}", "C"),
        (r"\boxed{C: \frac{1}{2}}", "C"),
        (r"\boxed{\text{C. foo}}", "C"),
        (r"\boxed{\text{Option C}}", "C"),
        (r"\boxed{Answer: C}", "C"),
        (r"first \boxed{A}, no, \boxed{B}", "B"),
        (r"The answer is (A). \boxed{B}", "B"),
        (r"The answer is (A). \boxed{12}", None),
        (r"\boxed{A tree}", None),
        (r"\boxed{A, B}", None),
        (r"\boxed{AB}", None),
        (r"\boxed{A.5}", None),
        (r"\boxed{}", None),
        (r"\boxed{A", None),
        ("The answer is (C).", "C"),
        ("the answer is C", "C"),
        ("The correct answer is **C**, as 2 < 3.", "C"),
        ("**Answer:** C) 12 m", "C"),
        ("**Answer: C** (as above)", "C"),
        ("Answer:\n\n**C)** 12 m", "C"),
        ("Final answer: $C$", "C"),
        ("The best option is C: it is cheap.", "C"),
        ("My choice is (C)", "C"),
        ("The answer is option C because it is cheap.", "C"),
        ("The answer is A. No: the answer is B.", "B"),
        ("ANSWER: C", "C"),
        ("答案是C。", "C"),
        ("答案为(C)", "C"),
        ("所以选C。", "C"),
        ("The answer is a tree.", None),
        ("Answer: A tree.", None),
        ("Answer: A and B are equally likely.", None),
        ("The answer is (A) or (B).", None),
        ("The answer is A, B.", None),
        ("The answer is I think C", None),
        ("Option C is better.", None),
        ("The answer is Cadmium.", None),
        ("C", None),
        ("", None),
        ("选择题", None),
    ],
)
def test_forms(text: str, letter: str | None) -> None:
    assert extract_letter(text) == letter


# File of shared/data/traces -> row, counted from 0 -> the letter that a reader of the response's end finds named.
# Most of the questions are open ones, so that what is no letter must be left alone: riddles ("Answer: A tree"), boxed
# numbers and sentences, answers that name two letters or none, cut ones, Chinese ones. M was asked for as a letter.
ENDINGS: dict[str, dict[int, str | None]] = {
    "misguided_phi4rp.jsonl.gz": {
        93: "A",
        94: "A",
        95: "A",
        96: "A",
        97: "A",
        98: "A",
        99: "A",
        100: "A",
        101: "A",
        106: None,
        114: None,
        123: None,
        133: "M",
        140: None,
    },
    "misguided_q3_235b-think.jsonl.gz": {
        20: None,
        27: None,
        38: None,
        69: None,
        70: None,
        71: None,
        72: None,
        79: None,
        93: "A",
        94: "A",
        95: "A",
        96: "B",
        97: "B",
        98: "B",
        99: "A",
        100: "A",
        101: "A",
        114: None,
        115: None,
        117: None,
        118: None,
        122: None,
        123: None,
        129: None,
        133: "M",
        141: "A",
        142: None,
        144: "A",
        145: None,
    },
    "misguided_qwq-32b.jsonl.gz": {
        12: None,
        57: None,
        58: None,
        59: None,
        72: "A",
        73: "A",
        74: "A",
        75: "B",
        76: "B",
        77: "B",
        78: "A",
        79: "A",
        80: "A",
        93: None,
        95: None,
        96: None,
        100: "M",
        101: "M",
        114: "A",
        115: "A",
        116: "A",
    },
    "misguided_r10528.jsonl.gz": {
        29: None,
        45: None,
        71: None,
        73: None,
        74: None,
        93: "A",
        94: None,
        95: "A",
        96: None,
        97: None,
        99: None,
        100: None,
        101: None,
        131: None,
        148: None,
    },
    "unireason_rl_math500.jsonl.gz": {16: None, 48: None, 72: None, 110: "C", 155: None},
    "unireason_sft_math500.jsonl.gz": {44: None, 110: "C", 124: "E", 182: None},
    "marco_o1_cot_demo.json": {0: None, 1: None, 23: None, 41: None, 54: None, 112: None},
    "unireason_rl_ifeval.jsonl.gz": {198: None, 454: None},
    "star1_safety_r1.jsonl.gz": {0: None},
    "thought_anchors_math_base_solutions.jsonl.gz": {0: None},
}


def load(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a file of traces."""
    text = gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text(encoding="utf-8")
    rows: list[dict[str, Any]] = (
        json.loads(text) if path.suffix == ".json" else list(map(json.loads, text.splitlines()))
    )
    return rows


def response(row: dict[str, Any]) -> str:
    """Return a row's response: the files name it differently."""
    return str(next(row[name] for name in ("output", "response", "solution") if name in row))


@pytest.mark.parametrize("file", ENDINGS)
def test_real_endings(file: str, shared_data: Path) -> None:
    rows = load(shared_data / "traces" / file)
    for number, letter in ENDINGS[file].items():
        final = final_part(response(rows[number]), prompt_opens_think=False)
        assert final is not None
        assert extract_letter(final) == letter, (file, number, final[-200:])


def test_the_table_of_endings_is_large_and_varied(shared_data: Path) -> None:
    letters = [letter for rows in ENDINGS.values() for letter in rows.values()]
    assert len(letters) >= 60
    assert len([letter for letter in letters if letter]) >= 30
    finals = [
        str(final_part(response(load(shared_data / "traces" / file)[number]), prompt_opens_think=False))
        for file, rows in ENDINGS.items()
        for number in rows
    ]
    num_boxes = sum(last_boxed(final) is not None for final in finals)
    assert 20 < num_boxes < len(finals) - 20


ANSWER = {"letter": "C", "num_options": 4}


def test_verdicts_say_why() -> None:
    grader = ChoiceGrader()
    assert grader.grade(r"\boxed{C}", ANSWER).correct is True
    reasons = [grader.grade(text, ANSWER).reason for text in (r"\boxed{B}", r"\boxed{E}", r"\boxed{12}", "")]
    assert reasons == ["wrong_answer: B is not C", "no_option: E of 4", "no_letter", "no_letter"]
    assert grader.grade(r"\boxed{E}", {"letter": "E", "num_options": 5}).correct is True
    assert grader.grade(r"\boxed{C}", "C").correct is None


def test_the_papers_gpqa_grader() -> None:
    grader = GpqaPaperGrader()
    texts = {r"\boxed{C}": True, r"\boxed{C./}": True, r"\boxed{\text{C}}": False, r"\boxed{(C)}": False}
    texts |= {"I choose c": True, "The answer is C or D": True, "Option D, option C": True, "C": False}
    assert {text: grader.grade(text, ANSWER).correct for text in texts} == texts
    assert extract_letter(r"\boxed{\text{C}}") == "C"
    assert not grader.reads_trace


def test_the_papers_mmlu_pro_grader_takes_the_first_match_also_in_the_trace() -> None:
    grader = MmluProPaperGrader()
    text = "<think>Maybe the answer is (B).</think> No. \\boxed{C}"
    assert grader.reads_trace
    assert grader.grade(text, ANSWER).reason == "wrong_answer: B is not C"
    assert grader.grade(r"\boxed{\text{C}} \boxed{D}", ANSWER).correct is True
    assert grader.grade("the answer is Cadmium", ANSWER).correct is True


@pytest.mark.parametrize("grader", [ChoiceGrader(), GpqaPaperGrader(), MmluProPaperGrader()])
def test_hostile_responses_are_decided_soon(grader: ChoiceGrader) -> None:
    began = time.perf_counter()
    for piece in ("answer is ", "answer:* ", "\\boxed{", "option option ", "{", "(", "\\boxed{\\text{", "is: "):
        assert grader.grade(piece * 200_000, ANSWER).correct is False
        assert grader.grade(f"\\boxed{{{piece * 200_000}}}", ANSWER).correct is False
    assert time.perf_counter() - began < 20
