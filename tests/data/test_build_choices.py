"""`tools/build_shards`: transforms of rows, conversations of several turns, and the choice among rows."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from megatron_sft.data.chat import ChatTokenizer
from megatron_sft.errors import UserError
from tests.conftest import write_tokenizer
from tests.data.test_build_shards import SUM, build, rejects, write_rows

THINK = "<think>\n3 and 5\n</think>\n\nThe sum is \\boxed{8}"


def spans(reader: Any, tokenizer: Path, index: int) -> list[tuple[str, str]]:
    """The sequences of a sample: (masked or trained, text)."""
    sample, chat = reader.sample(index), ChatTokenizer(tokenizer)
    bounds = [0, *(i for i in range(1, len(sample.trained)) if sample.trained[i] != sample.trained[i - 1])]
    ends = [*bounds[1:], len(sample.tokens)]
    kinds = ["trained" if sample.trained[start] else "masked" for start in bounds]
    return [(kind, chat.decode(sample.tokens[a:b].tolist())) for kind, a, b in zip(kinds, bounds, ends, strict=True)]


# ---- transforms ----


def test_strip_think_keeps_the_summary(tiny_tokenizer: Path, tmp_path: Path) -> None:
    rows = [SUM | {"response": THINK}, {"prompt": "p", "response": "no trace"}, {"prompt": "q", "response": "<think>"
            "all</think>  "}]  # fmt: skip
    reader = build(tmp_path / "out", tiny_tokenizer, write_rows(tmp_path / "r.jsonl", rows), strip_think=True)
    assert spans(reader, tiny_tokenizer, 0)[1] == ("trained", "The sum is \\boxed{8}<|im_end|>")
    assert spans(reader, tiny_tokenizer, 1)[1] == ("trained", "no trace<|im_end|>")
    assert [line["reason"] for line in rejects(tmp_path / "out")] == ["empty_response"]


def test_prompt_suffix_goes_to_the_last_user_turn(tiny_tokenizer: Path, tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    rows = write_rows(tmp_path / "r.jsonl", [{"message": turns, "response": "d"}])
    reader = build(tmp_path / "out", tiny_tokenizer, rows, prompt_suffix="\nBox it.")
    masked = spans(reader, tiny_tokenizer, 0)[0][1]
    assert "user\na<|im_end|>" in masked
    assert "user\nc\nBox it.<|im_end|>" in masked


def test_columns_by_name(tiny_tokenizer: Path, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "r.jsonl", [{"problem": "3 + 5?", "solution": SUM["response"], "gold": 8, "n": 4}])
    columns = ("prompt=problem", "response=solution", "answer=gold", "id=n")
    reader = build(tmp_path / "out", tiny_tokenizer, rows, columns=columns, verify="math")
    plain = build(tmp_path / "plain", tiny_tokenizer, write_rows(tmp_path / "plain.jsonl", [SUM]))
    assert reader.sample(0).tokens.tolist() == plain.sample(0).tokens.tolist()
    for wrong in ("problem", "question=q", "prompt="):
        with pytest.raises(UserError, match="FIELD=COLUMN"):
            build(tmp_path / "no", tiny_tokenizer, rows, columns=(wrong,))


def test_join_takes_the_responses_of_other_files(tiny_tokenizer: Path, tmp_path: Path) -> None:
    base = [{"prompt": f"q{i}\nBox it.", "question": f"q{i}", "response": THINK, "answer": str(i)} for i in range(4)]
    others = [{"problem": f"q{i} ", "solution": f"short {i}: \\boxed{{{i}}}"} for i in (3, 1, 0, 9)]
    others.append({"problem": "q1", "solution": "a second one is not used"})
    reader = build(
        tmp_path / "out",
        tiny_tokenizer,
        write_rows(tmp_path / "base.jsonl", base),
        columns=("query_id=question",),
        join=(str(write_rows(tmp_path / "numina.jsonl", others)),),
        join_columns=("query_id=problem", "prompt=problem", "response=solution"),
        verify="math",
    )
    trained = [spans(reader, tiny_tokenizer, i)[1][1] for i in range(reader.num_samples)]
    assert trained == [f"short {i}: \\boxed{{{i}}}<|im_end|>" for i in (0, 1, 3)]
    assert "Box it." in spans(reader, tiny_tokenizer, 0)[0][1]
    assert [(line["line"], line["reason"]) for line in rejects(tmp_path / "out")] == [(3, "no_joined_response")]
    assert [entry["name"] for entry in reader.manifest["configuration"]["files"]] == ["numina.jsonl"]


def test_truncation_loses_the_stop_token_and_is_counted(tiny_tokenizer: Path, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "r.jsonl", [SUM, {"prompt": "p", "response": "word " * 100, "id": "long"}])
    reader = build(tmp_path / "out", tiny_tokenizer, rows, max_length=60, over_length="truncate")
    cut = reader.sample(1)
    assert len(cut.tokens) == 60
    assert cut.tokens[-1] != reader.stop_token_id
    assert reader.manifest["notices"] == {"truncated": {"count": 1, "first": "long"}}


# ---- conversations ----

TURNS = [
    {"role": "user", "content": "a"},
    {"role": "assistant", "content": "<think>b</think>c"},
    {"role": "user", "content": "d"},
]


def test_earlier_turns_are_masked_or_trained(tiny_tokenizer: Path, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "r.jsonl", [{"message": TURNS, "response": "e"}])
    last = build(tmp_path / "last", tiny_tokenizer, rows)
    assert [kind for kind, _ in spans(last, tiny_tokenizer, 0)] == ["masked", "trained"]
    every = build(tmp_path / "all", tiny_tokenizer, rows, train_turns="all")
    assert spans(every, tiny_tokenizer, 0) == [
        ("masked", "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n"),
        ("trained", "<think>b</think>c<|im_end|>"),
        ("masked", "\n<|im_start|>user\nd<|im_end|>\n<|im_start|>assistant\n"),
        ("trained", "e<|im_end|>"),
    ]
    assert every.manifest["trained_tokens"] == every.sample(0).trained.sum()


def test_the_last_turn_of_a_message_is_the_response(tiny_tokenizer: Path, tmp_path: Path) -> None:
    whole = [*TURNS, {"role": "assistant", "content": "e"}]
    rows = [{"message": TURNS, "response": "e"}, {"message": whole}, {"message": json.dumps(whole)}]
    reader = build(tmp_path / "out", tiny_tokenizer, write_rows(tmp_path / "r.jsonl", rows), keep_duplicates=True)
    assert reader.num_samples == 3
    assert len({tuple(reader.sample(i).tokens.tolist()) for i in range(3)}) == 1


def test_a_template_that_drops_reasoning_is_named(tmp_path: Path) -> None:
    template = (
        "{% for m in messages %}[{{ m.role }}]{{ m.content.split('</think>')[-1] }}{% endfor %}"
        "{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    tokenizer = write_tokenizer(tmp_path / "tokenizer", template=template)
    rows = write_rows(tmp_path / "r.jsonl", [SUM, {"message": TURNS, "response": "e", "id": "two"}])
    last = build(tmp_path / "last", tokenizer, rows)
    assert last.manifest["notices"] == {"earlier_reasoning_dropped_by_template": {"count": 1, "first": "two"}}
    build(tmp_path / "all", tokenizer, rows, train_turns="all")
    (line,) = rejects(tmp_path / "all")
    assert (line["id"], line["reason"]) == ("two", "turn_rewritten_by_template")
    assert "drops or changes the reasoning of turn 1; use --train-turns last" in line["detail"]


def test_a_doubled_bos_is_named(tmp_path: Path) -> None:
    tokenizer = write_tokenizer(tmp_path / "tokenizer", template="{{ bos_token }}{{ messages[0].content }}")
    config = json.loads((tokenizer / "tokenizer_config.json").read_text())
    (tokenizer / "tokenizer_config.json").write_text(json.dumps(config | {"bos_token": "<|im_start|>"}))
    rows = [SUM, SUM | {"prompt": "<|im_start|>3 + 5?", "id": "twice"}]
    build(tmp_path / "out", tokenizer, write_rows(tmp_path / "r.jsonl", rows))
    assert [(line["id"], line["reason"]) for line in rejects(tmp_path / "out")] == [("twice", "double_bos")]


# ---- the choice among rows ----


def test_duplicates_are_dropped_with_the_place_of_the_first(tiny_tokenizer: Path, tmp_path: Path) -> None:
    first = write_rows(tmp_path / "a.jsonl", [SUM, b"", SUM | {"id": "again"}])
    second = write_rows(tmp_path / "b.jsonl", [SUM | {"response": "another"}, SUM])
    reader = build(tmp_path / "out", tiny_tokenizer, first, second)
    assert reader.num_samples == 2
    lines = rejects(tmp_path / "out")
    assert [(line["file"], line["line"], line["reason"]) for line in lines] == [
        ("a.jsonl", 3, "duplicate"),
        ("b.jsonl", 2, "duplicate"),
    ]
    assert lines[1]["detail"] == "same prompt and response as a.jsonl:1"
    assert build(tmp_path / "kept", tiny_tokenizer, first, second, keep_duplicates=True).num_samples == 4


def responses(path: Path, queries: int = 40, each: int = 6) -> Path:
    """`each` responses to every query, of different lengths, one in three wrong, the queries interleaved."""
    rows = [
        {
            "prompt": f"{q} + 1?",
            "query_id": q,
            "id": f"{q}-{r}",
            "response": f"<think>{'x ' * ((q * 7 + r * 5) % 11)}{r}</think>\\boxed{{{q + 1 + (r % 3 == q % 3)}}}",
            "answer": q + 1,
        }
        for r in range(each)
        for q in range(queries)
    ]
    return write_rows(path, rows)


def chosen(output: Path, rows: Path) -> list[str]:
    """The ids of the kept rows, in order."""
    dropped = {line["id"] for line in rejects(output)}
    ids = [json.loads(line)["id"] for line in rows.read_text().splitlines()]
    return [name for name in ids if name not in dropped]


@pytest.mark.parametrize("select", ["random-correct", "first-correct", "shortest-correct"])
def test_one_response_of_each_query_is_selected(select: Any, tiny_tokenizer: Path, tmp_path: Path) -> None:
    rows, output = responses(tmp_path / "r.jsonl"), tmp_path / "out"
    reader = build(output, tiny_tokenizer, rows, select=select, verify="math", workers=3)
    kept = [tuple(map(int, name.split("-"))) for name in chosen(output, rows)]
    assert sorted(q for q, _ in kept) == list(range(40))
    assert all(r % 3 != q % 3 for q, r in kept)
    counts = reader.manifest["counts"]
    assert counts["rejected_by_reason"] == {"not_selected": 120, "wrong_answer": 80}
    assert counts["rows_read"] == 240
    if select == "first-correct":
        assert all(r == (1 if q % 3 == 0 else 0) for q, r in kept)
    elif select == "shortest-correct":
        everything = {(q, r): (q * 7 + r * 5) % 11 for q in range(40) for r in range(6) if r % 3 != q % 3}
        assert all(everything[q, r] == min(n for (p, _), n in everything.items() if p == q) for q, r in kept)
    else:
        assert len(Counter(r for _, r in kept)) > 3
        again = build(tmp_path / "seed", tiny_tokenizer, rows, select=select, verify="math", seed=1)
        assert again.fingerprint != reader.fingerprint
        assert chosen(tmp_path / "seed", rows) != chosen(output, rows)
    assert not (output / "spool").exists()


def test_the_random_choice_does_not_depend_on_the_order(tiny_tokenizer: Path, tmp_path: Path) -> None:
    rows = responses(tmp_path / "r.jsonl")
    reversed_rows = tmp_path / "reversed.jsonl"
    reversed_rows.write_text("".join(reversed(rows.read_text().splitlines(keepends=True))))
    options: dict[str, Any] = {"select": "random-correct", "verify": "math"}
    build(tmp_path / "a", tiny_tokenizer, rows, **options)
    build(tmp_path / "b", tiny_tokenizer, reversed_rows, **options)
    assert sorted(chosen(tmp_path / "a", rows)) == sorted(chosen(tmp_path / "b", reversed_rows))


def test_queries_are_drawn_with_all_their_rows(tiny_tokenizer: Path, tmp_path: Path) -> None:
    rows, output = responses(tmp_path / "r.jsonl"), tmp_path / "out"
    reader = build(output, tiny_tokenizer, rows, num_queries=10, verify="math", seed=4)
    queries = Counter(name.split("-")[0] for name in chosen(output, rows))
    assert set(queries.values()) == {4}
    assert len(queries) == 10
    assert reader.manifest["counts"]["rejected_by_reason"]["query_not_drawn"] == 120
    other = build(tmp_path / "other", tiny_tokenizer, rows, num_queries=10, verify="math", seed=5)
    assert other.fingerprint != reader.fingerprint
    with pytest.raises(UserError, match="only 40 queries have a row that may be kept"):
        build(tmp_path / "many", tiny_tokenizer, rows, num_queries=41, verify="math")


def test_rows_without_a_query_id_are_grouped_by_their_prompt(tiny_tokenizer: Path, tmp_path: Path) -> None:
    rows = [{"prompt": p, "response": r} for p in ("a", "b") for r in ("x", "y", "z")]
    output = tmp_path / "out"
    reader = build(output, tiny_tokenizer, write_rows(tmp_path / "r.jsonl", rows), select="first-correct")
    assert reader.num_samples == 2
    assert [line["line"] for line in rejects(output)] == [2, 3, 5, 6]
