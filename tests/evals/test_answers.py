import json
from pathlib import Path

from evals.aggregate import Provenance, aggregate
from evals.answers import write_answers
from tests.evals.made_up import make_answer, make_plan


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_file_has_what_the_result_rests_on(tmp_path: Path) -> None:
    plan = make_plan("run/iter_0000040", 40, items=2)
    graded = [
        make_answer("0", True, num_tokens=7),
        make_answer("0", False, sample=1, num_tokens=100, finish_reason="length", reason="cut_off"),
        make_answer("1", None, reason="undecided: a timeout", figures={"a": 2.0, "n": 3.0}),
    ]
    write_answers(tmp_path, plan, graded, {"share": ("a", "n")})
    path = tmp_path / "answers" / "iter_0000040" / "addition.jsonl"
    undecided = {"item": "1", "sample": 0, "score": 0.0, "num_tokens": 10, "cut_off": False, "extracted": True}
    assert read(path) == [
        {"item": "0", "sample": 0, "score": 1.0, "num_tokens": 7, "cut_off": False, "extracted": True, "ratios": {}},
        {"item": "0", "sample": 1, "score": 0.0, "num_tokens": 100, "cut_off": True, "extracted": False, "ratios": {}},
        undecided | {"ratios": {"share": [2.0, 3.0]}},
    ]
    # Replaced as a whole, and in agreement with the entry of results.json.
    write_answers(tmp_path, plan, graded[2:], {})
    assert [line["item"] for line in read(path)] == ["1"]
    entry = aggregate(plan, graded, "exact@1", Provenance(commit=None, seed=0))
    assert entry["score"] == 0.25
    assert entry["share_extracted"] == 2 / 3


def test_points_are_those_of_the_judge(tmp_path: Path) -> None:
    graded = [make_answer("0", False, figures={"score": 1.5}), make_answer("1", None, reason="judge_failed")]
    write_answers(tmp_path, make_plan("m", 0, task="chat"), graded, {})
    assert [line["score"] for line in read(tmp_path / "answers" / "m" / "chat.jsonl")] == [1.5, None]
