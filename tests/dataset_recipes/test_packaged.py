"""Each packaged recipe, from miniature sources with the published columns."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from megatron_sft.data.build_shards import BuildShardsConfig
from megatron_sft.data.build_shards import main as build_shards
from megatron_sft.data.chat import ChatTokenizer
from megatron_sft.data.shards import ShardReader
from tests.dataset_recipes.conftest import (
    NUM_ROWS,
    PUBLISHED,
    SUFFIX,
    build,
    dataset,
    published_row,
    question,
    rows_of,
    summary,
    trace,
    traces_of,
    write_rows,
)

EXPECTED = ("--expected-rows", str(NUM_ROWS))


def check_shards(folder: Path, tokenizer: Path, tmp_path: Path) -> None:
    """The set's shards, its own and those that `build_shards` makes of its rows, hold the rows in their order."""
    chat, rows = ChatTokenizer(tokenizer), rows_of(folder)
    config = BuildShardsConfig(
        inputs=(str(folder / "rows.parquet"),), output=tmp_path / "again", tokenizer=tokenizer, max_length=20_000
    )
    build_shards(config)
    for shards in (folder / "shards", tmp_path / "again"):
        reader = ShardReader(shards, verify=True)
        assert reader.num_samples == len(rows)
        for number, row in enumerate(rows):
            expected = [*chat.encode_prompt(row["message"]), *chat.encode(row["response"]), chat.eos_id]
            assert reader.sample(number).tokens.tolist() == expected
            assert reader.trained_tokens[number] == row["response_length"] + 1


def test_math_cot_from_traces_that_are_there(tiny_tokenizer: Path, tmp_path: Path) -> None:
    # Of each query the first answer is wrong; query 5 is never solved.
    rows = [row for n in range(NUM_ROWS) for row in traces_of(n, (False, n != 5, n != 5))]
    # As they are finished, so in no order; but the first row of each query tells the queries' order.
    shuffled = [*rows[::3], *rows[1::3][::-1], *rows[2::3]]
    files = [write_rows(tmp_path / f"traces-{n}.jsonl", part) for n, part in enumerate((shuffled[:20], shuffled[20:]))]
    output = tmp_path / "out"
    words = ("--traces", *files, "--expected-rows", "12")
    assert build("math-cot-20k", output, tiny_tokenizer, *words) == 0
    found = rows_of(output)
    assert pq.read_schema(output / "rows.parquet").equals(PUBLISHED)
    numbers = [int(row["answer"]) // 2 for row in found]
    assert numbers == sorted(set(numbers)) and len(numbers) == 12 and 5 not in numbers
    for number, row in zip(numbers, found, strict=True):
        assert row["response"] in {one["response"] for one in traces_of(number, (False, True, True))[1:]}
        published = published_row(number)
        same = ("data_source", "question", "answer", "message", "advantage")
        assert {name: row[name] for name in same} == {name: published[name] for name in same}
    assert {"1", "2"} == {row["response"].split()[2][0] for row in found} or len(found) < 4
    check_shards(output, tiny_tokenizer, tmp_path)

    content = dataset(output)
    assert content["num_rows"] == 12
    assert content["stages"]["rows"] == {
        "candidates": 3 * NUM_ROWS,
        "queries": NUM_ROWS,
        "queries_with_an_accepted_response": NUM_ROWS - 1,
        "rows": 12,
        "query_not_drawn": 3,
    }
    assert content["dropped_by_reason"] == {
        "rows: query_not_drawn": 3,
        "select: not_selected": NUM_ROWS - 1,
        "select: wrong_answer": NUM_ROWS + 2,
    }
    assert {one["what"]: one["used"] for one in content["deviations"]} == {
        "expected_rows": 12,
        "select: num_queries": 12,
    }
    assert [file["name"] for file in content["sources"]["traces"]["files"]] == ["traces-0.jsonl", "traces-1.jsonl"]


def test_the_raw_pool_is_read_as_it_is(tiny_tokenizer: Path, tmp_path: Path) -> None:
    # Published columns, several rows a query, no id: the same prompt is the same query.
    rows = [{**published_row(n), "response": row["response"]} for n in range(4) for row in traces_of(n, (True, False))]
    pq.write_table(pa.Table.from_pylist(rows, PUBLISHED), tmp_path / "pool.parquet")
    words = ("--traces", tmp_path / "pool.parquet", "--expected-rows", "4")
    assert build("math-cot-20k", tmp_path / "out", tiny_tokenizer, *words) == 0
    assert [row["response"] for row in rows_of(tmp_path / "out")] == [rows[2 * n]["response"] for n in range(4)]


def test_math_cot_as_it_is_published(math_cot: Path, tiny_tokenizer: Path, tmp_path: Path) -> None:
    words = ("--source", f"math-cot-20k={math_cot}", *EXPECTED)
    assert build("math-cot-20k", tmp_path / "out", tiny_tokenizer, *words) == 0
    length = {"response_length": 0}
    found = [row | length for row in rows_of(tmp_path / "out")]
    assert found == [published_row(number) | length for number in range(NUM_ROWS)]
    check_shards(tmp_path / "out", tiny_tokenizer, tmp_path)


def test_nocot_keeps_the_summary_byte_for_byte(math_cot: Path, tiny_tokenizer: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    words = ("--source", f"math-cot-20k={math_cot}", *EXPECTED)
    assert build("math-nocot-20k", output, tiny_tokenizer, *words) == 0
    found = rows_of(output)
    assert pq.read_schema(output / "rows.parquet").equals(PUBLISHED)
    assert [row["question"] for row in found] == [question(number) for number in range(NUM_ROWS)]
    assert [row["response"] for row in found] == [summary(number) for number in range(NUM_ROWS)]
    chat = ChatTokenizer(tiny_tokenizer)
    assert [row["response_length"] for row in found] == [len(chat.encode(summary(n))) for n in range(NUM_ROWS)]
    check_shards(output, tiny_tokenizer, tmp_path)


def test_rows_that_are_too_long_are_cut_and_counted(math_cot: Path, tiny_tokenizer: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    words = ("--source", f"math-cot-20k={math_cot}", *EXPECTED)
    assert build("math-cot-20k", output, tiny_tokenizer, *words, "--max-length", "124") == 0
    chat = ChatTokenizer(tiny_tokenizer)
    # Prompt, response, stop token.
    whole = [len(chat.encode_prompt(row["message"])) + row["response_length"] + 1 for row in rows_of(output)]
    num_cut = sum(size > 124 for size in whole)
    assert 0 < num_cut < NUM_ROWS
    assert ShardReader(output / "shards").lengths.tolist() == [min(124, size) for size in whole]
    assert dataset(output)["stages"]["shards"]["notices"]["truncated"]["count"] == num_cut
    assert f"Rows cut at 124 tokens: {num_cut} (" in (output / "card" / "README.md").read_text()
    assert {"what": "shards: max_length", "recipe": 20_000, "used": 124} in dataset(output)["deviations"]


def test_a_built_set_is_the_source_of_the_next(math_cot: Path, tiny_tokenizer: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "cot", tmp_path / "nocot"
    assert build("math-cot-20k", first, tiny_tokenizer, "--source", f"math-cot-20k={math_cot}", *EXPECTED) == 0
    assert build("math-nocot-20k", second, tiny_tokenizer, "--source", f"math-cot-20k={first}", *EXPECTED) == 0
    assert [row["response"] for row in rows_of(second)] == [summary(number) for number in range(NUM_ROWS)]


def test_the_rows_to_start_from_are_built_on_the_way(tiny_tokenizer: Path, tmp_path: Path) -> None:
    traces = write_rows(tmp_path / "t.jsonl", [row for n in range(6) for row in traces_of(n, (False, True))])
    output = tmp_path / "out"
    words = ("--traces", traces, "--num-queries", "6", "--expected-rows", "4")
    assert build("math-cot-2.5k", output, tiny_tokenizer, *words) == 0
    assert len(rows_of(output / "base")) == 6
    chosen = dataset(output)["subset"]["rows_from_0"]
    assert rows_of(output) == [rows_of(output / "base")[number] for number in chosen]
    assert len(chosen) == 4


@pytest.fixture
def numinamath(tmp_path: Path) -> Path:
    """NuminaMath-1.5's columns: questions shuffled, with other white space, others among them, one again and again."""
    order = [9, 2, 15, 0, 7, 12, 4, 1, 14, 3, 10, 6, 13, 8, 5, 11]
    rows = [{"problem": question(n) + " ", "solution": f"Clear: {n}", "answer": str(2 * n + 1)} for n in order]
    rows[6]["problem"] = " What is 4\n+  5? "
    rows.insert(5, {"problem": "Another question?", "solution": "x", "answer": "1"})
    rows.append({"problem": question(9), "solution": "A second solution", "answer": "19"})
    rows.insert(0, {"problem": question(9), "solution": "  ", "answer": "19"})
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "numina.parquet")
    return tmp_path / "numina.parquet"


def test_numinamath_joins_by_question(math_cot: Path, numinamath: Path, tiny_tokenizer: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    words = ("--source", f"math-cot-20k={math_cot}", f"numinamath={numinamath}", *EXPECTED)
    assert build("numinamath-20k", output, tiny_tokenizer, *words) == 0
    found = rows_of(output)
    assert pq.read_schema(output / "rows.parquet").equals(PUBLISHED)
    assert [row["question"] for row in found] == [question(number) for number in range(NUM_ROWS)]
    assert [row["response"] for row in found] == [f"Clear: {number}" for number in range(NUM_ROWS)]
    assert [row["message"] for row in found] == [published_row(number)["message"] for number in range(NUM_ROWS)]
    assert dataset(output)["stages"]["candidates"]["join"] == {
        "rows_read": NUM_ROWS + 3,
        "other_questions": 1,
        "further_responses": 1,
        "empty_responses": 1,
        "num_without_response": 0,
        "without_response": [],
    }
    check_shards(output, tiny_tokenizer, tmp_path)


def test_numinamath_names_the_questions_without_a_solution(
    math_cot: Path, numinamath: Path, tiny_tokenizer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = pq.read_table(numinamath)
    fewer = table.filter(pa.array([row["problem"].strip() != question(7) for row in table.to_pylist()]))
    pq.write_table(fewer, numinamath)
    output = tmp_path / "out"
    words = ("--source", f"math-cot-20k={math_cot}", f"numinamath={numinamath}")
    assert build("numinamath-20k", output, tiny_tokenizer, *words, *EXPECTED) == 2
    printed = capsys.readouterr()
    assert "1 questions have no response in numinamath: math-cot.parquet:8\n" in printed.out
    error = printed.err
    assert f"{NUM_ROWS - 1} rows, the recipe expects {NUM_ROWS}" in error and "1 no_joined_response" in error
    assert not (output / "dataset.json").exists()
    dropped = (output / "candidates" / "dropped.jsonl").read_text()
    assert '"line": 8' in dropped and question(7) in dropped
    assert build("numinamath-20k", output, tiny_tokenizer, *words, "--expected-rows", "15", "--overwrite") == 0
    assert question(7) not in [row["question"] for row in rows_of(output)]
    assert dataset(output)["stages"]["candidates"]["join"]["without_response"] == ["math-cot.parquet:8"]


def test_deepseek_r1_joins_and_verifies(math_cot: Path, tiny_tokenizer: Path, tmp_path: Path) -> None:
    def luffy(number: int, response: str) -> dict[str, Any]:
        turns = [{"role": "system", "content": "Think."}, {"role": "user", "content": question(number)}]
        return {
            "data_source": "openr1",
            "prompt": turns,
            "target": [{"role": "assistant", "content": response}],
            "reward_model": {"ground_truth": str(2 * number + 1), "style": "rule"},
        }

    rows = [luffy(n, trace(n).replace("Okay", "Hmm")) for n in reversed(range(NUM_ROWS))]
    rows[0] = luffy(NUM_ROWS - 1, trace(3))  # wrong
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "luffy.parquet")
    words = ("--source", f"math-cot-20k={math_cot}", f"luffy={tmp_path / 'luffy.parquet'}", "--expected-rows", "15")
    assert build("deepseek-r1-20k", tmp_path / "out", tiny_tokenizer, *words) == 0
    found = rows_of(tmp_path / "out")
    assert [row["response"] for row in found] == [trace(n).replace("Okay", "Hmm") for n in range(NUM_ROWS - 1)]
    assert dataset(tmp_path / "out")["dropped_by_reason"] == {"select: wrong_answer": 1}


def test_a_subset_is_reproducible_and_recorded(math_cot: Path, tiny_tokenizer: Path, tmp_path: Path) -> None:
    words = ("--source", f"math-cot-20k={math_cot}", "--expected-rows", "5")
    chosen = []
    for name in ("a", "b"):
        assert build("math-cot-2.5k", tmp_path / name, tiny_tokenizer, *words) == 0
        content = dataset(tmp_path / name)["subset"]
        assert (content["how"], content["seed"], content["num"], content["of"]) == ("random", 0, 5, NUM_ROWS)
        chosen.append(content["rows_from_0"])
        found = [row["question"] for row in rows_of(tmp_path / name)]
        assert found == [question(number) for number in content["rows_from_0"]]
    # Drawn by hashes of seed and question, so the same with any version of Python.
    assert chosen[0] == chosen[1] == sorted(chosen[0]) and chosen[0] != [0, 1, 2, 3, 4]
    assert (tmp_path / "a" / "rows.parquet").read_bytes() == (tmp_path / "b" / "rows.parquet").read_bytes()


COUNTDOWN = [
    ([3, 5, 7], 28, "7*(5-3)*2"),
    ([1, 2, 3, 4], 24, "1*2*3*4"),
    ([6, 6, 2], 14, "6+6+2"),
    ([9, 3, 1], 26, "9*3-1"),
]


def test_countdown_prompt_and_struct(tiny_tokenizer: Path, tmp_path: Path) -> None:
    rows = []
    for n, (numbers, target, expression) in enumerate(COUNTDOWN):
        answer = {"numbers": numbers, "target": target}
        message = [{"role": "user", "content": f"Numbers: {numbers}\nTarget: {target}"}]
        response = f"<think>\ntry\n</think>\n\n\\boxed{{{expression}}}"
        rows.append({"query_id": f"q{n}", "message": message, "answer": answer, "response": response})
    traces = write_rows(tmp_path / "t.jsonl", rows)
    # The first one uses 3, 5, 7 and 2: wrong.
    assert build("countdown-cot-20k", tmp_path / "out", tiny_tokenizer, "--traces", traces, "--expected-rows", "3") == 0
    kind = pa.struct([("numbers", pa.list_(pa.int64())), ("target", pa.int64())])
    assert pq.read_schema(tmp_path / "out" / "rows.parquet").field("answer").type == kind
    found = rows_of(tmp_path / "out")
    assert [row["answer"] for row in found] == [{"numbers": n, "target": t} for n, t, _ in COUNTDOWN[1:]]
    assert found[0]["question"] == "Numbers: [1, 2, 3, 4]\nTarget: 24"
    assert "Answers were checked in exact arithmetic." in (tmp_path / "out" / "card" / "README.md").read_text()
    # A set of such rows is read again: structs are verified as they stand in Parquet.
    config = BuildShardsConfig(
        inputs=(str(tmp_path / "out" / "rows.parquet"),), output=tmp_path / "again", tokenizer=tiny_tokenizer,
        max_length=500, verify="countdown",
    )  # fmt: skip
    build_shards(config)
    assert ShardReader(tmp_path / "again").num_samples == 3


def test_countdown_queries(tmp_path: Path) -> None:
    from megatron_sft.dataset_recipes.queries import write_queries
    from megatron_sft.dataset_recipes.recipe import load
    from megatron_sft.dataset_recipes.row_files import numbered_rows
    from megatron_sft.dataset_recipes.sources import Source

    pq.write_table(pa.table({"nums": [[3, 5, 7], [1, 2]], "target": [28, 3]}), tmp_path / "tasks.parquet")
    recipe, _ = load("countdown-cot-20k")
    assert recipe.queries is not None
    columns = recipe.sources["countdown"].columns
    source = Source(name="countdown", files=[tmp_path / "tasks.parquet"], columns=columns, record={"files": []})
    assert write_queries(source, recipe.queries, recipe.answer, tmp_path / "q")["queries"] == 2
    query = next(row for _, row in numbered_rows(tmp_path / "q" / "queries.jsonl"))
    assert query is not None
    assert query["answer"] == {"numbers": [3, 5, 7], "target": 28}
    assert query["question"] == "Numbers: [3, 5, 7]\nTarget: 28"
    (turn,) = query["message"]
    assert "\n\nNumbers: [3, 5, 7]\nTarget: 28\n\n" in turn["content"]
    assert turn["content"].endswith("within \\boxed{}.")
    assert SUFFIX not in turn["content"]
