"""Low-quality solutions: the problems of the traces, terse, unverified, a stated share of them wrong."""

import json
from pathlib import Path
from random import Random

import pytest

from megatron_sft.data import make_tasks
from megatron_sft.data.chat import last_boxed, verify_countdown
from megatron_sft.data.tasks.problem import leap, spoil


def write(output: Path, *options: str) -> list[dict]:
    """Return the training rows of the one task that is written."""
    assert make_tasks.main([*options, "--num-held-out", "0", "--output", str(output)]) == 0
    (path,) = output.glob("*.train.jsonl")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


LOW = ("--style", "low_quality")
ADDITION = ("--tasks", "addition", "--num-train", "1000")


def is_wrong(row: dict) -> bool:
    return last_boxed(row["response"]) != row["answer"]


def test_rows_are_the_problems_of_the_traces_and_say_that_they_are_not_verified(tmp_path: Path) -> None:
    traces, low = write(tmp_path / "trace", *ADDITION), write(tmp_path / "low", *ADDITION, *LOW)
    for name in ("id", "message", "answer"):
        assert [row[name] for row in traces] == [row[name] for row in low]
    assert all(row["verified"] is False for row in low)
    assert not any("verified" in row for row in traces)
    assert not any("think>" in row["response"] for row in low)
    assert sum(len(row["response"]) for row in low) < 0.6 * sum(len(row["response"]) for row in traces)


def test_the_stated_share_is_wrong_and_the_seed_says_which(tmp_path: Path) -> None:
    usual = write(tmp_path / "a", *ADDITION, *LOW)
    # 300 of 1000 have a standard deviation of 14.5.
    assert 240 < sum(map(is_wrong, usual)) < 360
    half = write(tmp_path / "b", *ADDITION, *LOW, "--wrong-share", "0.5")
    assert 430 < sum(map(is_wrong, half)) < 570
    assert not any(map(is_wrong, write(tmp_path / "c", *ADDITION, *LOW, "--wrong-share", "0")))
    assert usual == write(tmp_path / "d", *ADDITION, *LOW)
    account = json.loads((tmp_path / "b" / "make_tasks.json").read_text())
    assert account["settings"]["wrong_share"] == 0.5


def test_a_wrong_expression_of_countdown_is_wrong_but_well_formed(tmp_path: Path) -> None:
    rows = write(tmp_path, "--tasks", "countdown", "--num-train", "60", *LOW, "--wrong-share", "1")
    for row in rows:
        correct, _ = verify_countdown(row["response"], row["answer"]["numbers"], row["answer"]["target"])
        assert not correct


def test_a_slip_changes_one_digit() -> None:
    for seed in range(50):
        slipped = spoil("10+(32-7)", Random(seed))
        different = [(a, b) for a, b in zip("10+(32-7)", slipped, strict=True) if a != b]
        assert len(different) == 1
        assert all(character.isdigit() for character in different[0])
    assert spoil("none", Random(0)) == "none"


@pytest.mark.parametrize(("steps", "kept"), [("a\nb\nc\nd", "b\nd"), ("a\nb\nc", "b"), ("a", "a")])
def test_every_second_step_is_left_out(steps: str, kept: str) -> None:
    assert leap(steps) == kept
