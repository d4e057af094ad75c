"""Procedural tasks: every answer verifies, the splits are disjoint, the bytes depend on the options alone."""

import hashlib
import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from random import Random

import pytest

from megatron_sft.backends import import_reasoning_gym
from megatron_sft.data import make_tasks
from megatron_sft.data.chat import answer_text, last_boxed, verify_countdown, verify_math
from megatron_sft.data.tasks import addition, comparison, countdown, counting, reversal, sorting, subtraction
from megatron_sft.data.tasks.problem import Difficulty, Family, split_of
from megatron_sft.data.tasks.registry import builtin_families

FAMILIES = builtin_families()
REQUESTS = ["locked_code", "open_code"]
OWN = [name for name in FAMILIES if not name.startswith("gym_") and name not in REQUESTS]
GYM = [name for name in FAMILIES if name.startswith("gym_")]


def write(output: Path, *options: str) -> int:
    return make_tasks.main([*options, "--output", str(output)])


def rows_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def assert_verifies(row: dict) -> None:
    answer = row["answer"]
    if isinstance(answer, dict):
        assert verify_countdown(row["response"], answer["numbers"], answer["target"]) == (True, ""), row
    else:
        assert verify_math(row["response"], answer) == (True, ""), row
        assert last_boxed(answer_text(row["response"])) == answer, row


@pytest.mark.parametrize("style", ["trace", "short"])
def test_every_row_of_every_family_verifies(tmp_path: Path, style: str) -> None:
    assert (
        write(tmp_path, "--tasks", ",".join(OWN), "--style", style, "--num-train", "150", "--num-held-out", "40") == 0
    )
    for name in OWN:
        for split, num_rows in (("train", 150), ("held_out", 40)):
            rows = rows_of(tmp_path / f"{name}.{split}.jsonl")
            assert len(rows) == num_rows
            for row in rows:
                assert list(row) == ["id", "task", "message", "response", "answer"]
                assert row["task"] == name
                assert row["message"][0]["content"].endswith(
                    "\nPlease reason step by step, and put your final answer within \\boxed{}."
                )
                assert row["response"].startswith("<think>\n" if style == "trace" else "\\boxed{")
                assert_verifies(row)


@pytest.mark.parametrize("name", OWN)
def test_both_styles_ask_the_same_problems(tmp_path: Path, name: str) -> None:
    for style in ("trace", "short"):
        write(tmp_path / style, "--tasks", name, "--style", style, "--num-train", "30", "--num-held-out", "5")
    traces, shorts = (rows_of(tmp_path / style / f"{name}.train.jsonl") for style in ("trace", "short"))
    assert [row["message"] for row in traces] == [row["message"] for row in shorts]
    assert [answer_text(row["response"]).strip() for row in traces] == [row["response"] for row in shorts]


def key_of(row: dict) -> str:
    """The problem's content, read back from the row without the generator's help."""
    if isinstance(row["answer"], dict):
        return f"{sorted(row['answer']['numbers'])} {row['answer']['target']}"
    words = row["message"][0]["content"].split("\n")[0].rstrip("?.").split()
    return " ".join(sorted(words))


@pytest.mark.parametrize("name", OWN)
def test_training_and_held_out_problems_are_disjoint_across_seeds(tmp_path: Path, name: str) -> None:
    common = ("--tasks", name, "--style", "short", "--num-held-out", "60")
    write(tmp_path / "a", *common, "--num-train", "600", "--seed", "1")
    write(tmp_path / "b", *common, "--num-train", "0", "--seed", "2")
    train = [key_of(row) for row in rows_of(tmp_path / "a" / f"{name}.train.jsonl")]
    assert len(set(train)) == 600, "no problem twice"
    for folder in ("a", "b"):
        held_out = [key_of(row) for row in rows_of(tmp_path / folder / f"{name}.held_out.jsonl")]
        assert len(set(held_out)) == 60
        assert not set(train) & set(held_out)


def test_addition_split_ignores_the_order_of_operands() -> None:
    rng, difficulty = Random(0), Difficulty(max_digits=1)
    keys = {addition.draw(rng, difficulty).key for _ in range(2000)}
    assert len(keys) == 55, "unordered pairs of digits"


def test_about_a_tenth_is_held_out() -> None:
    num_held_out = sum(split_of("addition", f"{a}+{a + 1}") == "held_out" for a in range(5000))
    assert 400 < num_held_out < 600


def test_bytes_depend_on_the_options_alone(tmp_path: Path) -> None:
    options = ("--tasks", "addition,countdown", "--num-train", "20", "--num-held-out", "5", "--seed", "3")
    write(tmp_path / "a", *options)
    command = [sys.executable, "-m", "megatron_sft.data.make_tasks", *options, "--output", str(tmp_path / "b")]
    subprocess.run(
        command, check=True, env={"PYTHONHASHSEED": "77", "PYTHONPATH": str(Path.cwd())}, capture_output=True
    )
    for path in sorted((tmp_path / "a").iterdir()):
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name
    write(tmp_path / "c", *options[:-1], "4")
    assert (tmp_path / "a/addition.train.jsonl").read_bytes() != (tmp_path / "c/addition.train.jsonl").read_bytes()
    # Pinned, so that another Python version or platform cannot draw other problems unnoticed.
    first = rows_of(tmp_path / "a" / "addition.train.jsonl")[0]["message"][0]["content"].split("\n")[0]
    assert first == PINNED_FIRST_PROBLEM


PINNED_FIRST_PROBLEM = "Compute 664 + 23."


def test_the_account_counts_every_draw(tmp_path: Path) -> None:
    write(tmp_path, "--tasks", "counting", "--num-train", "50", "--num-held-out", "10")
    account = json.loads((tmp_path / "make_tasks.json").read_text())
    assert [entry["split"] for entry in account["files"]] == ["train", "held_out"]
    for entry in account["files"]:
        assert entry["num_draws"] == entry["num_rows"] + entry["num_draws_of_other_split"] + entry["num_draws_repeated"]
        assert entry["sha256"] == hashlib.sha256((tmp_path / entry["file"]).read_bytes()).hexdigest()
    assert account["files"][1]["num_draws_of_other_split"] > 0


def test_addition_trace() -> None:
    steps = addition.solve(678, 345).steps.split("\n")
    assert steps == ["678+345", "8+5+0=13 write:3 carry:1", "7+4+1=12 write:23 carry:1", "6+3+1=10 write:023 carry:1"]
    assert addition.solve(678, 345).boxed == "1023"
    assert addition.solve(0, 0).boxed == "0"


def test_subtraction_trace_drops_leading_zeros() -> None:
    solution = subtraction.solve(105, 98)
    assert (
        solution.steps == "105-098\n5-8-0=-3 write:7 borrow:1\n0-9-1=-10 write:07 borrow:1\n1-0-1=0 write:007 borrow:0"
    )
    assert solution.boxed == "7"


def test_traces_of_the_other_families() -> None:
    assert comparison.solve(345, 378).steps == "345,378\n3=3\n4<7\n378"
    assert sorting.solve("382").steps == "insert 3:3\ninsert 8:38\ninsert 2:238"
    assert reversal.solve("380").boxed == "083"
    assert counting.solve("7", "577").steps == "count 7\n5:0\n7:1\n7:2"


def test_countdown_traces_search_and_backtrack_truthfully() -> None:
    num_backtracks = 0
    for seed in range(120):
        rng = Random(seed)
        problem = countdown.draw(rng, Difficulty())
        solution = problem.solve()
        lines = solution.steps.split("\n")
        num_backtracks += sum(line.startswith("back to") for line in lines)
        stack = [lines[0].split(" to ")[0]]
        for line in lines[1:-1]:
            if line.startswith("back to "):
                stack.pop()
                assert line.removeprefix("back to ") == stack[-1], solution.steps
                continue
            check_step(line, stack, problem.answer["target"])
        assert lines[-2].endswith(" yes")
        assert lines[-1] == solution.boxed
    assert num_backtracks > 100, "the search must really backtrack"


def check_step(line: str, stack: list[str], target: int) -> None:
    """Check one operation against the state that the trace is in; a move to a new state is pushed."""
    step, word, *rest = line.split(" ")
    left, result = step.split("=")
    operator = next(symbol for symbol in "+-*/" if symbol in left)
    a, b = (int(number) for number in left.split(operator))
    assert int(result) == {"+": a + b, "-": a - b, "*": a * b, "/": a // b if b else 0}[operator], line
    before = sorted(map(int, stack[-1].split(",")))
    after = sorted([int(result), *before])
    after.remove(a)
    after.remove(b)
    if word == "left":
        assert sorted(map(int, rest[0].split(","))) == after, line
        stack.append(rest[0])
    else:
        assert after == [int(result)]
        assert word == ("yes" if int(result) == target else "no"), line


def test_countdown_brackets_only_where_needed() -> None:
    e = countdown.Expression
    product = countdown._join(e(5, "2+3", "+"), "*", e(4, "4"), 20)
    assert product.text == "(2+3)*4"
    assert countdown._join(e(9, "9"), "-", e(1, "3-2", "-"), 8).text == "9-(3-2)"
    assert countdown._join(e(8, "8"), "/", e(4, "2*2", "*"), 2).text == "8/(2*2)"
    assert countdown._join(e(6, "2*3", "*"), "+", e(4, "4"), 10).text == "2*3+4"


@pytest.mark.parametrize("name", GYM)
def test_reasoning_gym_problems_verify_and_its_scorer_agrees(tmp_path: Path, name: str) -> None:
    if find_spec("reasoning_gym") is None:
        pytest.skip("reasoning-gym is not installed: it comes with the eval extra")
    reasoning_gym = import_reasoning_gym()
    assert write(tmp_path, "--tasks", name, "--style", "short", "--num-train", "8", "--num-held-out", "4") == 0
    score = reasoning_gym.get_score_answer_fn(name.removeprefix("gym_"))
    for row in rows_of(tmp_path / f"{name}.train.jsonl") + rows_of(tmp_path / f"{name}.held_out.jsonl"):
        assert_verifies(row)
        boxed = last_boxed(row["response"])
        # Its Countdown scorer executes what it is given: these expressions are ours and hold nothing but arithmetic.
        assert set(boxed) <= set("0123456789+-*/()")
        answer = row["answer"]
        entry = {"answer": answer, "metadata": answer if isinstance(answer, dict) else {}}
        assert score(boxed, entry) == 1.0
        assert score("1", entry) < 1.0 or answer == "1"


def test_the_data_layer_does_not_import_reasoning_gym_or_torch() -> None:
    code = (
        "import sys; from megatron_sft.data import make_tasks; make_tasks.builtin_families(); "
        "print([name for name in ('torch', 'reasoning_gym', 'transformers') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--tasks", "addition,division"), "unknown task 'division'; known are addition"),
        (("--tasks", "addition,addition"), "name each task once"),
        (("--tasks", "addition", "--countdown-numbers", "3"), "--countdown-numbers has no effect"),
        (("--tasks", "countdown", "--countdown-numbers", "3,x"), "expected counts from 2 to 6"),
        (("--tasks", "addition", "--max-digits", "0"), "--max-digits 0: must be from 1 to 12"),
        (("--tasks", "addition", "--max-digits", "1"), "found only"),
        (("--tasks", "gym_gcd"), "has answers but no traces: write it with --style short"),
        (("--tasks", "open_code", "--style", "low_quality"), "has answers but no traces: write it with --style short"),
        (("--tasks", "addition", "--wrong-share", "0.5"), "--wrong-share has no effect on --style trace"),
        (("--tasks", "addition", "--style", "low_quality", "--wrong-share", "2"), "2.0: must be from 0 to 1"),
        (("--tasks", "addition", "--num-train", "-1"), "must not be negative"),
    ],
)
def test_bad_options_say_what_to_change(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], message: str
) -> None:
    # Problems found while parsing are shown by the parser, in a box of its own width.
    try:
        status = write(tmp_path, *options)
    except SystemExit as error:
        status = error.code
    assert status == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_an_unknown_option_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as exit_info:
        write(tmp_path, "--tasks", "addition", "--max-digit", "3")
    assert exit_info.value.code == 2


def test_every_family_declares_options_that_exist() -> None:
    fields = set(Difficulty.__dataclass_fields__)
    assert all(isinstance(family, Family) and family.options <= fields for family in FAMILIES.values())
