"""Phrases in traces: hand-made sentences, the lists themselves, and traces of real models."""

import gzip
import json
import time
from pathlib import Path

import pytest

from evals.behaviours import MAX_CHARACTERS, PHRASES, PhraseCounter, behaviour_rates, trace_of


@pytest.mark.parametrize(
    ("trace", "expected"),
    [
        # backtracking, verification, sub-goals
        ("Wait, that's wrong.", (2, 0, 0)),
        ("so x = 5. But wait, no", (1, 0, 0)),
        ("**Wait** wait\nWAIT", (2, 0, 0)),
        ("We wait for the bus; awaiting, waiter, wait_for", (0, 0, 0)),
        ("That doesn\u2019t work. Let me try another way.", (2, 0, 0)),
        ("Alternatively, x. The answer could alternatively be y.", (1, 0, 0)),
        ("I made a mistake, backtrack to step one", (2, 0, 0)),
        ("Let me check again", (0, 1, 0)),
        ("Let me double-check: double-checking", (0, 2, 0)),
        ("I verify, verified, verifying", (0, 2, 0)),
        ("checkmate in two", (0, 0, 0)),
        ("First, I need to find x. Next, y. Finally, z", (0, 0, 4)),
        ("the first number, at first, then", (0, 0, 0)),
        ("Step 1: a\n## Step 12: b. In step 3 c", (0, 0, 2)),
        ("this is step 1", (0, 0, 0)),
        ("\u7b49\u7b49\uff0c\u4e0d\u5bf9\u3002\u9a8c\u8bc1\u4e00\u4e0b", (2, 1, 0)),
        ("\u82f9\u679c\u7b49\u7b49\u3002\u9996\u5148\uff0c\u6211\u4eec\u9700\u8981", (0, 0, 2)),
        ("x \u2014 hold on", (1, 0, 0)),
        ("", (0, 0, 0)),
    ],
)
def test_phrases_are_counted_as_documented(trace: str, expected: tuple[int, ...]) -> None:
    assert tuple(PhraseCounter().count(trace).values()) == expected


def test_the_lists_hold_what_they_say() -> None:
    phrases = [phrase for listed in PHRASES.values() for phrase in listed]
    assert len(phrases) == len(set(phrases)) > 100
    counter = PhraseCounter()
    for name, listed in PHRASES.items():
        for phrase in listed:
            example = phrase.removeprefix("^").replace("#", "7")
            counts = counter.count(f"Okay. {example} .")
            assert counts == dict.fromkeys(PHRASES, 0) | {name: 1}, phrase
            # In mid-clause the phrases with ^ do not count; stuck to letters no Latin one does.
            assert counter.count(f"they {example} .")[name] == (not phrase.startswith("^")), phrase
            if phrase.isascii():
                assert counter.count(f"Okay. {example}x" if example[-1] != "," else "")[name] == 0, phrase


@pytest.mark.parametrize(
    ("text", "trace"),
    [
        ("<think>a</think>b", "a"),
        ("a</think>b", "a"),
        ("<think>a", "a"),
        ("a b", "a b"),
        ("x<think>a</think>b<think>c</think>d", "a</think>b<think>c"),
        ("", ""),
    ],
)
def test_trace_of(text: str, trace: str) -> None:
    assert trace_of(text) == trace


def test_rates() -> None:
    # A trace has its share of the tokens: here 11 of 26 characters, none, and all of them.
    wait = "<think>Wait. Wait.</think>"
    responses = [(wait, 52), ("</think>xx", 10), ("Let me check.", 87)]
    trace_tokens = 52 * len("Wait. Wait.") / len(wait) + 0 + 87
    rates = behaviour_rates(responses, PhraseCounter())
    assert rates["backtracking"] == {
        "share": pytest.approx(1 / 3),
        "per_1000_tokens": pytest.approx(2000 / trace_tokens),
    }
    assert rates["verification"] == {
        "share": pytest.approx(1 / 3),
        "per_1000_tokens": pytest.approx(1000 / trace_tokens),
    }
    assert rates["sub_goals"] == {"share": 0.0, "per_1000_tokens": 0.0}


@pytest.mark.parametrize("turn", ["wait, ", "a", "\u7b49\u7b49\uff0c", "<think>"])
def test_a_response_of_100_million_characters_does_not_hang(turn: str) -> None:
    text = turn * (100_000_000 // len(turn))
    start = time.perf_counter()
    rates = behaviour_rates([(text, 25_000_000)], PhraseCounter())
    assert time.perf_counter() - start < 30
    if turn == "wait, ":
        # The tokens are cut in proportion, so the rate is that of the whole.
        assert rates["backtracking"]["per_1000_tokens"] == pytest.approx(1000 * 4 / 6, rel=1e-3)
        assert len(text) > MAX_CHARACTERS


def test_models_that_reason_at_length_backtrack_more_than_those_that_answer(shared_data: Path) -> None:
    def rates(name: str, field: str) -> dict[str, dict[str, float]]:
        path = shared_data / "traces" / name
        if not path.exists():
            pytest.skip(f"{path} is absent")
        with gzip.open(path, "rt", encoding="utf-8") as file:
            texts = [str(json.loads(line)[field]) for line in file]
        return behaviour_rates(((text, len(text) // 4) for text in texts), PhraseCounter())

    # Figures of the table in docs/results.md.
    long_traces = rates("misguided_qwq-32b.jsonl.gz", "thinking")
    plain_answers = rates("unireason_rl_ifeval.jsonl.gz", "output")
    assert long_traces["backtracking"]["share"] == pytest.approx(1.0, abs=0.01)
    assert long_traces["backtracking"]["per_1000_tokens"] == pytest.approx(16.7, abs=0.1)
    assert plain_answers["backtracking"]["share"] < 0.1
    assert plain_answers["verification"]["share"] < 0.1
