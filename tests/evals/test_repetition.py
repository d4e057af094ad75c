"""Loops at the end of a response, against a search that tries every period."""

import gzip
import json
import time
from pathlib import Path

import numpy as np
import pytest

from evals.repetition import MIN_CHARACTERS, MIN_TOKENS, WINDOW, ends_in_loop, loop_period


def slow_period(symbols: list[int], min_length: int) -> int | None:
    for period in range(1, len(symbols) // 4 + 1):
        length = max(min_length, 4 * period)
        tail = symbols[-length:]
        if len(symbols) >= length and all(tail[i] == tail[i - period] for i in range(period, length)):
            return period
    return None


def test_agrees_with_trying_every_period() -> None:
    generator = np.random.default_rng(0)
    found = []
    for _ in range(400):
        head = generator.integers(3, size=generator.integers(0, 40)).tolist()
        turn = generator.integers(3, size=generator.integers(1, 30)).tolist()
        # Some of the ends are cut within a turn, some have an odd token somewhere.
        symbols = (head + turn * 8)[: generator.integers(20, 200)]
        if generator.random() < 0.4:
            symbols[generator.integers(len(symbols))] = 9
        found.append(loop_period(symbols, 32))
        assert found[-1] == slow_period(symbols, 32)
    assert found.count(None) > 100
    assert len(set(found)) > 15


@pytest.mark.parametrize(
    ("ids", "finish_reason", "expected"),
    [
        ([1, 2] * 64, "length", True),
        ([1, 2] * 63 + [1], "length", False),
        ([*range(50)] * 4, "length", True),
        ([*range(50)] * 3 + [*range(49)], "length", False),
        ([7] * 40 + [*range(1000, 1050)] * 5 + [1000, 1001], "length", True),
        # Four times over, then out of the loop: it is not stuck.
        ([*range(50)] * 4 + [99, 98], "length", False),
        # Counting: every turn differs.
        ([token for n in range(100) for token in (n, 5, 6, 7)], "length", False),
        # A stop token at the end is no part of it.
        ([1, 2] * 64 + [0], "stop", True),
        ([1, 2] * 64 + [0], "length", False),
        ([0], "stop", False),
    ],
)
def test_rule_on_tokens(ids: list[int], finish_reason: str, expected: bool) -> None:
    assert ends_in_loop(ids, "", finish_reason) is expected
    assert MIN_TOKENS == 128


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ha" * 256, True),
        ("ha" * 255, False),
        ("等等\uff0c" * 171, True),
        ("\U0001f600" * 512 + "\ud800", False),
        ("x" + "So the answer is 5. Wait, let me check. " * 13, True),
        ("", False),
    ],
)
def test_rule_on_characters(text: str, expected: bool) -> None:
    assert ends_in_loop([], text, "stop") is expected
    assert MIN_CHARACTERS == 512


def test_a_run_of_characters_is_a_loop_that_tokens_hide() -> None:
    # Line ends in tokens of 16 and what is left over, as a tokenizer makes them.
    ids = [5, 6, 7, *[16] * 50, 8, 3]
    assert ends_in_loop(ids, "one two three" + "\n" * 811, "length")
    assert not ends_in_loop(ids, "one two three" + "\n" * 300, "length")
    # With token ids only short turns count: 200 characters, four times over, are few tokens.
    passage = "".join(map(chr, range(1000, 1200))) * 4
    assert not ends_in_loop([1, 2, 3] * 20, passage, "length")
    assert ends_in_loop([], passage, "length")


def test_only_the_window_is_looked_at() -> None:
    turn = np.random.default_rng(0).integers(1000, size=WINDOW // 4 + 1).tolist()
    assert not ends_in_loop(turn * 5, "", "length")
    assert ends_in_loop(turn[:-1] * 5, "", "length")


def test_long_responses_are_quick() -> None:
    ids = np.random.default_rng(0).integers(150_000, size=32_768).tolist()
    start = time.perf_counter()
    assert not any(ends_in_loop(ids, "", "length") for _ in range(20))
    assert time.perf_counter() - start < 2, "0.1 s each; a few ms are usual"
    # What makes careless searches quadratic: nearly periodic everywhere, and 100 MB of it.
    text = ("a" * 511 + "b") * 200_000
    start = time.perf_counter()
    assert ends_in_loop([], text, "stop")
    assert not ends_in_loop([], text[:-600] + "c" + "a" * 511, "stop")
    assert time.perf_counter() - start < 5


def test_token_and_character_rules_agree_on_traces(shared_data: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    folder = shared_data / "tokenizers" / "qwen3"
    with gzip.open(folder / "tokenizer.json.gz", "rt", encoding="utf-8") as file:
        tokenizer = tokenizers.Tokenizer.from_str(file.read())
    with gzip.open(shared_data / "traces" / "unireason_rl_ifeval.jsonl.gz", "rt", encoding="utf-8") as file:
        texts = [json.loads(line)["output"] for line in file]
    ids = [encoding.ids for encoding in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
    by_tokens = [ends_in_loop(some, text, "length") for some, text in zip(ids, texts, strict=True)]
    by_characters = [ends_in_loop([], text, "length") for text in texts]
    assert sum(by_tokens) == 132
    assert by_tokens == by_characters
