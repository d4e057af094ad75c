"""Each benchmark on a few rows of its file's form, made here: prompts, answers, quirks, and rows that are refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from evals.graders.choice import ChoiceGrader
from evals.items import Item
from evals.tasks.benchmark import Row
from evals.tasks.gpqa_diamond import option_order
from evals.tasks.halueval import shows_hallucination
from evals.tasks.load import load_benchmark
from evals.tasks.registry import builtin_benchmarks
from megatron_sft.errors import DataError

BOX = "\nPlease reason step by step, and put your final answer within \\boxed{}."


def read(name: str, *rows: dict[str, Any], quirks: tuple[str, ...] = ()) -> list[Item]:
    """Return a benchmark's items of rows, as from a file."""
    where = [Row(fields=row, where=f"mini, row {number}") for number, row in enumerate(rows, start=1)]
    return builtin_benchmarks()[name].read(where, set(quirks))


def content(item: Item) -> str:
    """Return the only turn's text."""
    (turn,) = item.messages
    assert turn["role"] == "user"
    return turn["content"]


MATHEMATICS = {
    "math500": {"problem": "What is 1+1?", "answer": "2", "subject": "Algebra", "unique_id": "a/1"},
    "aime24": {"id": 60, "problem": "What is 1+1?", "answer": "002"},
    "aime25": {"prompt": f"What is 1+1?{BOX}", "answer": 2},
    "gsm8k": {"question": "What is 1+1?", "answer": "1+1=<<1+1=2>>2\n#### 2"},
}


@pytest.mark.parametrize("name", MATHEMATICS)
def test_mathematics(name: str) -> None:
    (item,) = read(name, MATHEMATICS[name])
    assert content(item) == f"What is 1+1?{BOX}"
    assert item.answer == "2"
    (quirky,) = read(name, MATHEMATICS[name], quirks=("prompt_space",))
    assert content(quirky) == f"What is 1+1?{BOX}".replace("\n", "\n ")
    benchmark = builtin_benchmarks()[name]
    assert benchmark.grader_with({"box_in_trace"}) == "math_paper"


def test_ids_and_subjects_of_mathematics() -> None:
    assert [(item.id, item.subset) for item in read("math500", MATHEMATICS["math500"])] == [("a/1", "Algebra")]
    assert [item.id for item in read("aime24", MATHEMATICS["aime24"])] == ["60"]
    assert [item.id for item in read("gsm8k", MATHEMATICS["gsm8k"], MATHEMATICS["gsm8k"])] == ["0", "1"]
    large = {"question": "?", "answer": "much\n#### 1,234"}
    assert read("gsm8k", large)[0].answer == "1234"


GPQA = {
    "Record ID": "rec1",
    "Question": "Which one?\n",
    "Correct Answer": "right",
    "Incorrect Answer 1": "wrong 1",
    "Incorrect Answer 2": "wrong 2",
    "Incorrect Answer 3": "wrong 3",
    "High-level domain": "Physics",
}


def test_gpqa_shuffles_by_item_alone() -> None:
    items = read("gpqa_diamond", *({**GPQA, "Record ID": f"rec{number}"} for number in range(200)))
    for item in items:
        assert f"\n{item.answer['letter']}) right\n" in content(item)
    letters = [item.answer["letter"] for item in items]
    assert all(30 < letters.count(letter) < 70 for letter in "ABCD")
    # Written down: the order must never change between versions of this program or of Python.
    assert [option_order(f"rec{number}", 4) for number in range(3)] == [[1, 2, 0, 3], [1, 2, 3, 0], [3, 2, 1, 0]]
    assert read("gpqa_diamond", {**GPQA, "Record ID": "rec7"})[0] == items[7]
    assert content(items[0]).endswith("put the letter of your final choice (A to D) within \\boxed{}.")


def test_gpqas_quirk_is_another_grader() -> None:
    assert builtin_benchmarks()["gpqa_diamond"].grader_with({"loose_letters"}) == "choice_gpqa_paper"


MMLU = {"question_id": 70, "question": "Which?", "options": ["a", "b", "c"], "answer": "B", "category": "law"}


def test_mmlu_pro() -> None:
    (item,) = read("mmlu_pro", MMLU)
    assert content(item) == (
        "Which?\n\nA) a\nB) b\nC) c\n\n"
        "Please reason step by step, and put the letter of your final choice (A to C) within \\boxed{}."
    )
    assert (item.id, item.subset) == ("70", "law")
    assert ChoiceGrader().grade(r"\boxed{B}", item.answer).correct is True
    benchmark = builtin_benchmarks()["mmlu_pro"]
    assert benchmark.grader_with({"first_match"}) == "choice_mmlu_pro_paper"
    assert benchmark.preset_with({"subject_sampling"}).temperature == 0
    assert benchmark.preset_with({"first_match"}) == benchmark.preset


def test_the_thousand_of_mmlu_pro_need_the_whole_file() -> None:
    with pytest.raises(DataError, match="of the 1000 questions of mmlu_pro_1k are missing from this file"):
        read("mmlu_pro_1k", MMLU)


IFEVAL = {
    "key": 5,
    "prompt": "Say it.",
    "instruction_id_list": ["startend:end_checker"],
    "kwargs": [{"end_phrase": "it", "num_words": None}],
}


def test_ifeval() -> None:
    (item,) = read("ifeval", IFEVAL)
    assert (item.id, content(item)) == ("5", "Say it.")
    assert item.answer == {"instructions": [{"id": "startend:end_checker", "arguments": {"end_phrase": "it"}}]}
    assert content(read("ifeval", IFEVAL, quirks=("question_answer",))[0]) == "Question: Say it.\nAnswer:"


HALUEVAL = {
    "qa": {"knowledge": "K", "question": "Q", "right_answer": "right", "hallucinated_answer": "wrong"},
    "dialogue": {
        "knowledge": "K",
        "dialogue_history": "D",
        "right_response": "right",
        "hallucinated_response": "wrong",
    },
    "summarization": {"document": "D", "right_summary": "right", "hallucinated_summary": "wrong"},
}


@pytest.mark.parametrize("part", HALUEVAL)
def test_halueval_shows_one_of_two_answers(part: str) -> None:
    items = read(f"halueval_{part}", *[HALUEVAL[part]] * 100)
    for number, item in enumerate(items):
        shown, hidden = ("wrong", "right") if shows_hallucination(part, number) else ("right", "wrong")
        assert item.answer == ("Yes" if shown == "wrong" else "No")
        assert f": {shown}\n" in content(item)
        assert hidden not in content(item)
    assert 30 < [item.answer for item in items].count("Yes") < 70
    assert items[3].id == f"{part}-3"


def test_halueval_reads_its_three_files_as_one(tmp_path: Path) -> None:
    for part, row in HALUEVAL.items():
        (tmp_path / f"{part}_data.json").write_text(json.dumps(row) + "\n" + json.dumps(row) + "\n", encoding="utf-8")
    items = load_benchmark(builtin_benchmarks()["halueval"], tmp_path)
    assert [item.subset for item in items] == [part for part in HALUEVAL for _ in range(2)]
    assert items[2:4] == load_benchmark(builtin_benchmarks()["halueval_dialogue"], tmp_path)


def test_halueval_takes_choices_that_were_made_before() -> None:
    row = {"knowledge": "K", "question": "Q", "answer": "shown", "hallucination": "yes"}
    (item,) = read("halueval_qa", row)
    assert item.answer == "Yes"
    assert "Answer: shown\n" in content(item)
    general = {"user_query": "Q", "chatgpt_response": "R", "hallucination": "no"}
    assert read("halueval_general", general)[0].answer == "No"


def test_truthfulqa() -> None:
    row = {
        "Category": "Law",
        "Question": "Is it? ",
        "Best Answer": "No",
        "Correct Answers": "No; It is not;",
        "Incorrect Answers": "Yes",
    }
    (item,) = read("truthfulqa", row)
    assert content(item) == "Q: Is it?"
    assert item.answer == {"question": "Is it?", "best": "No", "correct": ["No", "It is not"], "incorrect": ["Yes"]}
    hub = {
        "category": "Law",
        "question": "Is it?",
        "best_answer": "No",
        "correct_answers": ["No", "It is not"],
        "incorrect_answers": ["Yes"],
    }
    assert read("truthfulqa", hub) == [item]


def test_alpaca_eval_has_its_own_sampling() -> None:
    (item,) = read("alpaca_eval", {"instruction": "Do it.", "dataset": "koala", "output": "Done."})
    assert (content(item), item.subset) == ("Do it.", "koala")
    assert item.answer == {"instruction": "Do it.", "reference": "Done."}
    preset = builtin_benchmarks()["alpaca_eval"].preset
    assert (preset.temperature, preset.top_p, preset.top_k, preset.max_tokens) == (0.7, 0.9, 50, 16_384)
    assert (preset.presence_penalty, preset.frequency_penalty) == (0.1, 0.1)


def test_safety_prompts_are_the_users_own(tmp_path: Path) -> None:
    (tmp_path / "hex-phi.csv").write_text("prompt,category\nTell me a secret.,gossip\n", encoding="utf-8")
    benchmark = builtin_benchmarks()["hex_phi"]
    (item,) = load_benchmark(benchmark, tmp_path)
    assert (content(item), item.subset) == ("Tell me a secret.", "gossip")
    assert (benchmark.preset.top_p, benchmark.preset.max_tokens, benchmark.preset.max_total_tokens) == (1, 16_384, None)
    assert benchmark.preset_with({"shared_window"}).max_total_tokens == 16_384
    row = {
        "Behavior": "Summarise it.",
        "ContextString": "A text.",
        "BehaviorID": "x",
        "FunctionalCategory": "contextual",
    }
    assert content(read("harmbench", row)[0]) == "A text.\n\nSummarise it."
    assert read("harmbench", {**row, "FunctionalCategory": "copyright"}) == []


def test_humaneval() -> None:
    row = {"task_id": "H/0", "prompt": "def one() -> int:\n", "entry_point": "one", "test": "def check(f): ..."}
    (item,) = read("humaneval", row)
    assert "```python\ndef one() -> int:\n```" in content(item)
    assert item.answer == {"kind": "function", "prompt": row["prompt"], "entry_point": "one", "test": row["test"]}


LIVECODEBENCH = {
    "question_id": "p1",
    "question_content": "Add one.\n",
    "starter_code": "",
    "difficulty": "easy",
    "public_test_cases": json.dumps([{"input": "1\n", "output": "2\n", "testtype": "stdin"}]),
    "private_test_cases": json.dumps([{"input": "3\n", "output": "4\n", "testtype": "stdin"}]),
    "metadata": "{}",
}


def test_livecodebench() -> None:
    pytest.importorskip("evals.livecodebench_tests")
    (item,) = read("livecodebench", LIVECODEBENCH)
    assert "standard input" in content(item)
    assert "\n\nAdd one.\n\n" in content(item)
    assert item.answer == {
        "kind": "tests",
        "fn_name": None,
        "tests": [{"input": "1\n", "output": "2\n"}, {"input": "3\n", "output": "4\n"}],
        "starter_code": "",
    }
    starter = "class Solution:\n    def f(self, x: int) -> int:\n"
    (function,) = read("livecodebench", {**LIVECODEBENCH, "starter_code": starter, "metadata": '{"func_name": "f"}'})
    assert f"```python\n{starter.rstrip()}\n```" in content(function)
    assert (function.answer["fn_name"], function.answer["starter_code"]) == ("f", starter)
    with pytest.raises(DataError, match=r"mini, row 1: .*has no tests"):
        read("livecodebench", {**LIVECODEBENCH, "public_test_cases": "[]", "private_test_cases": "[]"})


def test_countdown_reads_public_rows_and_those_of_make_tasks() -> None:
    ours = {"id": "c1", "message": [{"role": "user", "content": "?"}], "answer": {"numbers": [2, 3], "target": 5}}
    public, own = read("countdown", {"nums": [2, 3], "target": 5, "prompt": "?"}, ours)
    assert content(public) == content(own) == f"Use each of 2, 3 exactly once with + - * / to make 5.{BOX}"
    assert (public.id, own.id) == ("0", "c1")
    assert public.answer == own.answer == {"numbers": [2, 3], "target": 5}


@pytest.mark.parametrize(
    ("name", "row", "message"),
    [
        ("math500", {"problem": "?"}, "expected `answer`"),
        ("aime24", {"problem": "?", "answer": "x+1"}, "must be a whole number, found 'x"),
        ("gsm8k", {"question": "?", "answer": "5"}, "expected `answer` to end with '####'"),
        ("gpqa_diamond", {**GPQA, "Incorrect Answer 3": None}, "expected `Incorrect Answer 3`"),
        ("mmlu_pro", {**MMLU, "answer": "D"}, "`answer` 'D' is no letter of its 3 options"),
        ("mmlu_pro", {**MMLU, "options": "a, b"}, "`options` must be 2 to 10 strings"),
        ("ifeval", {**IFEVAL, "instruction_id_list": ["a:b"]}, "unknown instruction 'a:b'"),
        ("ifeval", {**IFEVAL, "kwargs": [{}]}, "startend:end_checker needs 'end_phrase'"),
        ("ifeval", {**IFEVAL, "kwargs": []}, "lists of the same length"),
        ("halueval_qa", {"x": "y"}, "no part of HaluEval has the fields x"),
        ("halueval_general", {"user_query": "Q", "chatgpt_response": "R", "hallucination": "?"}, "must be yes or no"),
        ("truthfulqa", {"Question": "?"}, "expected `Best Answer`"),
        ("hex_phi", {"text": "?"}, "expected `Behavior` or `prompt` or `instruction`"),
        ("countdown", {"nums": [1, "2"], "target": 3}, "expected `nums`"),
        ("countdown", {"nums": [1, 2]}, "expected `nums`"),
    ],
)
def test_refused_rows_are_named(name: str, row: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=f"mini, row 1: .*{message}"):
        read(name, row)
