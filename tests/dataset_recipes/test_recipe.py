"""Recipes and command lines that are wrong: file, line, value, remedy."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from megatron_sft.dataset_recipes import recipe
from megatron_sft.dataset_recipes.__main__ import merged
from megatron_sft.errors import ConfigError
from megatron_sft.recipes import paper
from tests.dataset_recipes.conftest import NUM_ROWS, build, published_row, rows_of, write_rows

GOOD = """\
title: Own
sources:
  my-rows: {columns: {question: q}}
start:
  source: my-rows
  prompt: "{question}\\nThink."
transform:
  subset: {num: 2, how: first}
expected_rows: 2
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("start:", "strat:", r"own.yaml:4: strat: \{...\}: a recipe has no key strat here; the nearest name is start"),
        ("num: 2", "num: two", r"own.yaml:8: num: two: expected a whole number"),
        ("how: first", "how: frist", r"own.yaml:8: how: frist: expected one of random, first.*nearest name is first"),
        ("{num: 2, how: first}", "2", r"own.yaml:8: 2: expected lines of the form"),
        ("num: 2, ", "", r"own.yaml:8: num is missing here; known are num, how, seed"),
        ("source: my-rows", "source: my_rows", r"own.yaml: there is no source my_rows; sources has my-rows"),
        ("start:\n", "queries: {source: my-rows, prompt: x}\nstart:\n", r"give either queries and generate, or start"),
        ("title: Own\n", "", r"own.yaml:1: title is missing here"),
        ("title: Own\n", "title: Own\ntitle: Twice\n", r"own.yaml:2: title: Twice: given before with Own in line 1"),
        ("{question: q}", "{question: {q: 1}}", r"own.yaml:3: question: \{...\}: expected one text"),
        ("title: Own", "title: !!python/name:os.system Own", r"own.yaml:1: title: Own: the tag .* is not allowed"),
    ],
)
def test_wrong_recipes(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in GOOD
    (tmp_path / "own.yaml").write_text(GOOD.replace(old, new, 1))
    with pytest.raises(ConfigError, match=message):
        recipe.load(str(tmp_path / "own.yaml"))


def test_unknown_names() -> None:
    with pytest.raises(ConfigError, match=r"no recipe math-cot: .* packaged are .*; the nearest name is math-cot-20k"):
        recipe.load("math-cot")


def test_all_packaged_recipes_expect_what_is_published() -> None:
    names = [file.stem for file in sorted(recipe.PACKAGED.glob("*.yaml"))]
    expected = {name: recipe.load(name)[0].expected_rows for name in names}
    twenty = ("countdown-cot-20k", "deepseek-r1-20k", "math-cot-20k", "math-nocot-20k", "numinamath-20k")
    assert expected == dict.fromkeys(twenty, 20_480) | {"math-cot-2.5k": 2560}
    for name in ("math-cot-20k", "countdown-cot-20k"):
        generate = recipe.load(name)[0].generate
        assert generate == recipe.GenerateSpec(teacher="Qwen/Qwen3-32B")
        assert (generate.num_samples, generate.temperature, generate.top_p, generate.top_k) == (32, 0.6, 0.95, 20)
        assert (generate.min_p, generate.max_tokens) == (0.0, 16_384)


def test_every_set_of_the_papers_runs_has_a_recipe() -> None:
    names = {str(run.facts["data_set"]) for run in paper.all_runs()}
    assert len(names) == 6
    assert {name: recipe.load(name.lower())[0].title for name in names} == {name: name for name in names}


def test_a_recipe_of_the_user(tiny_tokenizer: Path, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(GOOD)
    rows = [{"q": f"Ask {n}?", "response": f"Say {n}.", "answer": n} for n in range(4)]
    words = ("--source", f"my-rows={write_rows(tmp_path / 'mine.jsonl', rows)}")
    assert build(tmp_path / "own.yaml", tmp_path / "out", tiny_tokenizer, *words) == 0
    found = rows_of(tmp_path / "out")
    assert [row["message"][0]["content"] for row in found] == ["Ask 0?\nThink.", "Ask 1?\nThink."]
    assert [(row["answer"], row["data_source"], row["advantage"]) for row in found] == [
        ("0", "my-rows", 1.0),
        ("1", "my-rows", 1.0),
    ]


def test_a_source_without_a_column(
    math_cot: Path, tiny_tokenizer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = pq.read_table(math_cot).rename_columns(
        ["data_source", "question", "answer", "turns", "text", "response_length", "advantage", "logprob"]
    )
    pq.write_table(table, math_cot)
    words = ["--source", f"math-cot-20k={math_cot}", "--expected-rows", str(NUM_ROWS)]
    assert build("math-nocot-20k", tmp_path / "out", tiny_tokenizer, *words) == 2
    error = capsys.readouterr().err
    assert f"{math_cot}: no column 'message' for message; there are data_source, question, answer, turns, text" in error
    assert "--columns math-cot-20k.message=COLUMN" in error
    words += ["--columns", "math-cot-20k.message=turns", "math-cot-20k.response=text"]
    assert build("math-nocot-20k", tmp_path / "out", tiny_tokenizer, *words, "--overwrite") == 0
    assert len(rows_of(tmp_path / "out")) == NUM_ROWS


def test_traces_with_other_columns(tiny_tokenizer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [published_row(n) for n in range(3)]
    rows = [{**row, "text": row["response"], "gold": row["answer"]} for row in rows]
    for row in rows:
        del row["response"], row["answer"]
    words = ["--traces", write_rows(tmp_path / "t.jsonl", rows), "--expected-rows", "3"]
    assert build("math-cot-20k", tmp_path / "out", tiny_tokenizer, *words) == 2
    assert "name it with --columns traces.response=COLUMN" in capsys.readouterr().err
    words += ["--overwrite", "--columns", "traces.response=text", "traces.answer=gold"]
    assert build("math-cot-20k", tmp_path / "out", tiny_tokenizer, *words) == 0
    assert [(row["response"], row["answer"]) for row in rows_of(tmp_path / "out")] == [
        (row["text"], row["gold"]) for row in rows
    ]


def test_rows_that_are_none_are_dropped_by_line(tiny_tokenizer: Path, tmp_path: Path) -> None:
    lines = [json.dumps(published_row(n)) for n in range(3)]
    lines[1:1] = ["not json", "", json.dumps(published_row(9) | {"message": "no turns"})]
    (tmp_path / "cot.jsonl").write_text("\n".join(lines) + "\n")
    words = ("--source", f"math-cot-20k={tmp_path / 'cot.jsonl'}", "--expected-rows", "3")
    assert build("math-nocot-20k", tmp_path / "out", tiny_tokenizer, *words) == 0
    dropped = (tmp_path / "out" / "candidates" / "dropped.jsonl").read_text().splitlines()
    assert [(row["line"], row["reason"]) for row in map(json.loads, dropped)] == [
        (2, "missing_field"),
        (4, "missing_field"),
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "math-cot-20k asks Qwen/Qwen3-32B: name the model folder with --teacher FOLDER"),
        (("--source", "openr1=x"), "--source openr1: the recipe has no such source"),
        (("--source", "openr1-math"), "write NAME=PATH"),
        (("--source", "math-cot-20k=no.parquet"), "--source math-cot-20k= 'no.parquet' matches no file"),
        (("--teacher", "x", "--source", "openr1-math=hub"), "is not in the hub's cache, and HF_HUB_OFFLINE is set"),
        (("--traces", "no-*.jsonl"), "--traces 'no-*.jsonl' matches no file"),
        (("--columns", "response=x"), "write SOURCE.FIELD=COLUMN"),
    ],
)
def test_wrong_command_lines(
    words: tuple[str, ...], message: str, tiny_tokenizer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = build("math-cot-20k", tmp_path / "out", tiny_tokenizer, *words)
    except SystemExit as ended:
        status = int(str(ended.code))
    assert status == 2
    # tyro wraps what it shows.
    assert message in " ".join(capsys.readouterr().err.replace("│", " ").split())


@pytest.mark.parametrize(
    "words", [("--num-samples", "4"), ("--teacher", "x"), ("--num-queries", "3"), ("--traces", "{}")]
)
def test_options_without_effect(
    words: tuple[str, ...],
    math_cot: Path,
    tiny_tokenizer: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = [word.format(math_cot) for word in words]
    source = ("--source", f"math-cot-20k={math_cot}")
    assert build("math-nocot-20k", tmp_path / "out", tiny_tokenizer, *source, *given) == 2
    assert "has no effect, as the build starts from the finished rows of math-cot-20k" in capsys.readouterr().err


def test_list_options_may_be_repeated() -> None:
    words = "x --source a=1 --plan --source b=2 c=3 --output o --source=d=4 --columns s.f=c"
    expected = "x --plan --output o --source a=1 b=2 c=3 d=4 --columns s.f=c"
    assert merged(words.split()) == expected.split()
    assert merged(["x", "--output", "o"]) == ["x", "--output", "o"]


def test_a_number_of_answers_that_is_no_countdown_answer(tiny_tokenizer: Path, tmp_path: Path) -> None:
    rows = [published_row(n) | {"answer": None} for n in range(2)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    words = ("--source", f"countdown-cot-20k={tmp_path / 'rows.parquet'}", "--expected-rows", "2")
    assert build("countdown-cot-20k", tmp_path / "out", tiny_tokenizer, *words) == 0
    assert [row["answer"] for row in rows_of(tmp_path / "out")] == [None, None]
