"""The whole chain: queries, a teacher's answers, verification, rows, shards."""

import json
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from megatron_sft.data.chat import ChatTokenizer
from tests.conftest import REPOSITORY
from tests.dataset_recipes.conftest import NUM_ROWS, SUFFIX, build, dataset, question, rows_of
from tests.traces.conftest import Teacher


class Adder(Teacher):
    """Adds two numbers, now and then wrongly, depending on prompt and seed alone; never the one with 5 + 6."""

    def __init__(self, tokenizer: ChatTokenizer) -> None:
        super().__init__(tokenizer)
        self.tokenizer = tokenizer

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        """The completion of a request."""
        draw = random.Random(json.dumps([body["prompt"], body["seed"]]))
        match = re.search(r"What is (\d+) \+ (\d+)\?", self.tokenizer.decode(body["prompt"]))
        assert match is not None
        wrong = draw.random() < 0.4 or match[1] == "5"
        result = int(match[1]) + int(match[2]) + wrong
        text = f"<think>\n{draw.randrange(10)}\n</think>\n\n\\boxed{{{result}}}"
        ids = [*self.tokenizer.encode(text), self.eos_id]
        choice = {"index": 0, "text": text, "finish_reason": "stop", "token_ids": ids}
        return {"choices": [choice], "usage": {"completion_tokens": len(ids)}}


@pytest.fixture
def adder(tiny_tokenizer: Path) -> Iterator[Adder]:
    """The teacher, answering."""
    server = Adder(ChatTokenizer(tiny_tokenizer))
    server.start()
    yield server
    server.stop()


def test_math_cot_is_made(
    openr1: Path, adder: Adder, tiny_tokenizer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    teacher = ("--endpoint", adder.url, "--teacher", "Qwen/Qwen3-32B", "--teacher-tokenizer", str(tiny_tokenizer))
    words = (*teacher, "--source", f"openr1-math={openr1}", "--max-tokens", "99")
    assert build("math-cot-20k", output, tiny_tokenizer, *words, "--num-samples", "4") == 2
    error = capsys.readouterr().err
    assert re.search(r"1[0-5] rows, the recipe expects 20480. Of 16 queries 1[0-5] have a response", error)
    assert " wrong_answer, " in error and "1 duplicate_question" in error and "1 no_answer" in error

    # More samples add to those that are there; nothing is asked twice.
    num_asked = len(adder.bodies)
    assert num_asked == 4 * NUM_ROWS
    expected = ("--num-samples", "9", "--expected-rows", "14")
    assert build("math-cot-20k", output, tiny_tokenizer, *words, *expected) == 0
    assert "traces: 9 answers each by Qwen/Qwen3-32B: add to (num_samples: 4 became 9)" in capsys.readouterr().out
    assert len(adder.bodies) == 9 * NUM_ROWS

    found = rows_of(output)
    numbers = [int(row["answer"]) // 2 for row in found]
    assert numbers == sorted(set(numbers)) and len(numbers) == 14 and 5 not in numbers
    for number, row in zip(numbers, found, strict=True):
        assert (row["data_source"], row["question"]) == ("amc", question(number))
        assert row["message"] == [{"role": "user", "content": question(number) + SUFFIX}]
        assert row["response"].endswith(f"\\boxed{{{2 * number + 1}}}")
    content = dataset(output)
    assert content["stages"]["queries"] == {
        "rows_read": NUM_ROWS + 2,
        "usable": NUM_ROWS,
        "queries": NUM_ROWS,
        "dropped_by_reason": {"duplicate_question": 1, "no_answer": 1},
        "not_drawn": 0,
    }
    used = {one["what"]: (one["recipe"], one["used"]) for one in content["deviations"]}
    assert used == {
        "sampling: num_samples": (32, 9),
        "sampling: max_tokens": (16384, 99),
        "expected_rows": (20480, 14),
        "select: num_queries": (20480, 14),
    }
    assert content["stages"]["traces"]["settings"]["--temperature"] == 0.6
    assert content["generation"]["teacher"] == "Qwen/Qwen3-32B"
    card = (output / "card" / "README.md").read_text()
    assert "Of the teacher's 144 responses the limit cut off 0" in card
    assert "Queries with none: 1 (6.2%)" in card
    assert (output / "card" / "acceptance.png").read_bytes().startswith(b"\x89PNG")

    # Nothing to do, and nobody is asked.
    adder.stop()
    assert build("math-cot-20k", output, tiny_tokenizer, *words, *expected) == 0
    assert capsys.readouterr().out.count(": reused") == 6


def test_more_queries_add_to_what_is_there(openr1: Path, adder: Adder, tiny_tokenizer: Path, tmp_path: Path) -> None:
    teacher = ("--endpoint", adder.url, "--teacher", "Qwen3-32B", "--teacher-tokenizer", str(tiny_tokenizer))
    words = (*teacher, "--source", f"openr1-math={openr1}", "--num-samples", "8")
    assert (
        build(
            "math-cot-20k", tmp_path / "out", tiny_tokenizer, *words, "--draw-queries", "4", *("--expected-rows", "2")
        )
        == 0
    )
    first = [row["response"] for row in rows_of(tmp_path / "out")]
    num_asked = len(adder.bodies)
    words = (*words, "--overwrite", "--draw-queries", "10", "--expected-rows", "7")
    assert build("math-cot-20k", tmp_path / "out", tiny_tokenizer, *words) == 0
    assert (num_asked, len(adder.bodies)) == (4 * 8, 10 * 8)
    assert len(rows_of(tmp_path / "out")) == 7 and len(first) == 2
    assert dataset(tmp_path / "out")["dropped_by_reason"]["queries: not_drawn"] == NUM_ROWS - 10


def test_failed_samples_are_an_error_or_counted(
    openr1: Path, adder: Adder, tiny_tokenizer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adder.faults = lambda number: "refuse" if number == 3 else None
    output = tmp_path / "out"
    teacher = ("--endpoint", adder.url, "--teacher", "adder", "--teacher-tokenizer", str(tiny_tokenizer))
    words = (*teacher, "--source", f"openr1-math={openr1}", "--num-samples", "6", "--max-num-seqs", "1")
    assert build("math-cot-20k", output, tiny_tokenizer, *words, "--expected-rows", "9") == 2
    assert "1 samples of 1 queries failed" in capsys.readouterr().err
    adder.faults = lambda number: "refuse"
    words = (*words, "--allow-failed-samples", "--expected-rows", "9")
    assert build("math-cot-20k", output, tiny_tokenizer, *words) == 0
    assert dataset(output)["dropped_by_reason"]["traces: failed_samples"] == 1
    assert {"what": "teacher", "recipe": "Qwen/Qwen3-32B", "used": "adder"} in dataset(output)["deviations"]


def test_a_killed_build_leaves_nobody_who_asks(
    openr1: Path, adder: Adder, tiny_tokenizer: Path, tmp_path: Path
) -> None:
    teacher = ["--endpoint", adder.url, "--teacher", "Qwen3-32B", "--teacher-tokenizer", str(tiny_tokenizer)]
    words = [*teacher, "--source", f"openr1-math={openr1}", "--num-samples", "5", "--max-num-seqs", "1"]
    words += ["--expected-rows", "9"]
    adder.faults = lambda number: "hang" if number == 6 else None
    adder.hang_s = 60.0
    command = [sys.executable, "-m", "megatron_sft.dataset_recipes", "math-cot-20k", "--output", str(tmp_path / "out")]
    process = subprocess.Popen([*command, "--tokenizer", str(tiny_tokenizer), *words], cwd=REPOSITORY)
    while len(adder.bodies) < 7:
        assert process.poll() is None, "it must be killed before its end"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    # A generate_traces that went on would hold its file's lock, and this one be refused.
    time.sleep(1.0)
    assert build("math-cot-20k", tmp_path / "out", tiny_tokenizer, *words) == 0
    assert len(adder.bodies) == 5 * NUM_ROWS + 1


OWN = """\
title: Own
sources:
  mine:
    columns: {question: ask, answer: gold}
queries: {source: mine, prompt: "{question}"}
generate: {teacher: tiny, num_samples: 2, temperature: 1.0, max_tokens: 24}
select: {which: first-correct}
shards: {max_length: 300}
"""


@pytest.mark.vllm
@pytest.mark.slow
def test_a_model_answers(random_model: Path, tmp_path: Path) -> None:
    pytest.importorskip("vllm", reason="vLLM is not installed")
    (tmp_path / "own.yaml").write_text(OWN)
    rows = [{"ask": f"Say {number}.", "gold": str(number)} for number in range(4)]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ("--source", f"mine={tmp_path / 'mine.jsonl'}", "--teacher", str(random_model), "--kv-cache-gib", "0.05")
    assert build(tmp_path / "own.yaml", tmp_path / "out", random_model, *words) == 0
    counts = dataset(tmp_path / "out")["stages"]
    assert (counts["queries"]["queries"], counts["traces"]["num_rows"]) == (4, 8)
    # A model with random weights may give both answers to a query as special tokens, or nothing.
    asked = [f"Say {number}." for number in range(4)]
    found = [row["question"] for row in rows_of(tmp_path / "out")]
    assert found == [text for text in asked if text in found]
    assert len(found) == counts["rows"]["queries_with_an_accepted_response"] >= 2
