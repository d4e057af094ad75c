"""`tools/build_shards`: which rows are kept, what becomes of the others, and what the folder promises."""

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from megatron_sft import cli
from megatron_sft.data.build_shards import BuildShardsConfig, build_options, main
from megatron_sft.data.chat import ChatTokenizer
from megatron_sft.data.shards import ShardReader
from megatron_sft.errors import UserError
from tests.conftest import REPOSITORY, write_tokenizer

GOOD = {"prompt": "Make 28 from 3 5 7", "response": "<think>\ntry\n</think>\n\n\\boxed{7*(5-3)*2}"}
SUM = {"id": "sum", "prompt": "3 + 5?", "response": "<think>\n8\n</think>\n\n\\boxed{8}", "answer": "8"}


def write_rows(path: Path, rows: list[Any]) -> Path:
    """Write JSON Lines; a row given as bytes is written as it is."""
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


def build(output: Path, tokenizer: Path, *inputs: Path, max_length: int = 200, **options: Any) -> ShardReader:
    config = BuildShardsConfig(
        inputs=tuple(map(str, inputs)), output=output, tokenizer=tokenizer, max_length=max_length, **options
    )
    main(config)
    return ShardReader(output, verify=True)


def rejects(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "rejects.jsonl").read_text(encoding="utf-8").splitlines()]


def folder_bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


# ---- kept rows ----


def test_a_sample_is_masked_prompt_and_trained_response(tiny_tokenizer: Path, tmp_path: Path) -> None:
    reader = build(tmp_path / "out", tiny_tokenizer, write_rows(tmp_path / "rows.jsonl", [SUM, GOOD]))
    plain = Tokenizer.from_file(str(tiny_tokenizer / "tokenizer.json"))
    stop = plain.token_to_id("<|im_end|>")
    for index, row in enumerate([SUM, GOOD]):
        rendered = f"<|im_start|>user\n{row['prompt']}<|im_end|>\n<|im_start|>assistant\n"
        prompt = plain.encode(rendered, add_special_tokens=False).ids
        response = [*plain.encode(row["response"], add_special_tokens=False).ids, stop]
        sample = reader.sample(index)
        assert sample.tokens.tolist() == prompt + response
        assert sample.trained.tolist() == [0] * len(prompt) + [1] * len(response)


def test_message_and_prompt_say_the_same(tiny_tokenizer: Path, tmp_path: Path) -> None:
    turns = {"message": [{"role": "user", "content": SUM["prompt"]}], "response": SUM["response"], "extra": {"a": 1}}
    rows = write_rows(tmp_path / "rows.jsonl", [SUM, turns])
    reader = build(tmp_path / "out", tiny_tokenizer, rows, keep_duplicates=True)
    assert reader.sample(0).tokens.tolist() == reader.sample(1).tokens.tolist()


def test_stop_token_can_be_named(tiny_tokenizer: Path, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", [SUM])
    reader = build(tmp_path / "out", tiny_tokenizer, rows, stop_token="<|endoftext|>")
    expected = Tokenizer.from_file(str(tiny_tokenizer / "tokenizer.json")).token_to_id("<|endoftext|>")
    assert reader.sample(0).tokens[-1] == expected == reader.manifest["stop_id"]
    assert reader.manifest["stop_source"] == "--stop-token"
    with pytest.raises(UserError, match="not one token"):
        build(tmp_path / "other", tiny_tokenizer, rows, stop_token="two tokens")


def test_stop_token_inside_a_response_is_counted(tiny_tokenizer: Path, tmp_path: Path, capsys: Any) -> None:
    odd = SUM | {"response": "a<|im_end|>b", "id": "odd"}
    reader = build(tmp_path / "out", tiny_tokenizer, write_rows(tmp_path / "rows.jsonl", [odd, SUM]))
    assert reader.manifest["notices"] == {"stop_inside_response": {"count": 1, "first": "odd"}}
    assert "1 kept row(s): stop_inside_response (first: odd)" in capsys.readouterr().out


def test_compressed_and_parquet_rows_equal_plain_ones(tiny_tokenizer: Path, tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    turns = [[{"role": "system", "content": "Be brief."}, {"role": "user", "content": f"{i} + 1?"}] for i in range(150)]
    rows = [
        {
            "id": f"r{i}",
            "message": turns[i],
            "response": f"\\boxed{{{i}+1}}",
            "answer": {"numbers": [i, 1], "target": i + 1},
        }
        for i in range(150)
    ]
    rows[70]["response"] = None
    plain = write_rows(tmp_path / "rows.jsonl", rows)
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(plain.read_bytes()))
    (tmp_path / "rows.jsonl.zst").write_bytes(pyarrow.compress(plain.read_bytes(), codec="zstd", asbytes=True))
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "rows.parquet", row_group_size=40)
    expected = build(tmp_path / "plain", tiny_tokenizer, plain, verify="countdown")
    assert expected.num_samples == 149
    for name in ("rows.jsonl.gz", "rows.jsonl.zst", "rows.parquet"):
        output = tmp_path / name.replace(".", "-")
        build(output, tiny_tokenizer, tmp_path / name, verify="countdown")
        for file in ("samples-00000.bin", "samples-00000.idx"):
            assert (output / file).read_bytes() == (tmp_path / "plain" / file).read_bytes()
        assert [(r["line"], r["id"], r["reason"]) for r in rejects(output)] == [(71, "r70", "missing_field")]


def test_parquet_column_types(tiny_tokenizer: Path, tmp_path: Path) -> None:
    """Dictionaries, large strings, numbers as answers and ids, and a column of a type that cannot be."""
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    columns = {
        "prompt": pa.array(["p", "p"]).dictionary_encode(),
        "response": pa.array(["\\boxed{8}", "\\boxed{9}"], pa.large_string()),
        "answer": pa.array([8.0, 8.0]),
        "id": pa.array([1, 2], pa.int16()),
    }
    parquet.write_table(pa.table(columns), tmp_path / "rows.parquet")
    reader = build(tmp_path / "out", tiny_tokenizer, tmp_path / "rows.parquet", verify="math")
    assert reader.num_samples == 1
    assert [(r["id"], r["reason"]) for r in rejects(tmp_path / "out")] == [("2", "wrong_answer")]

    columns["response"] = pa.array([b"x", b"y"], pa.binary())
    parquet.write_table(pa.table(columns), tmp_path / "bad.parquet")
    with pytest.raises(UserError, match="2 wrong_type"):
        build(tmp_path / "other", tiny_tokenizer, tmp_path / "bad.parquet")


# ---- rejected rows ----


def test_each_bad_row_is_rejected_with_its_reason(tiny_tokenizer: Path, tmp_path: Path, capsys: Any) -> None:
    """A bad row never ends the build: the good row after all of them is kept."""
    cases: list[tuple[Any, str, str]] = [
        (b'{"prompt": "cut', "malformed_json", "column"),
        (b'{"prompt": "\xff", "response": "r"}', "invalid_utf8", "from byte 12"),
        ([1], "wrong_type", "must hold an object"),
        ({"prompt": "p"}, "missing_field", "no response"),
        ({"response": "r"}, "missing_field", "neither message nor prompt"),
        ({"message": [{"role": "user"}], "response": "r"}, "missing_field", "message[0] has no content"),
        ({"prompt": ["p"], "response": "r"}, "wrong_type", "prompt must be a string, found a list"),
        ({"prompt": "p", "response": 8}, "wrong_type", "response must be a string, found a number"),
        ({"prompt": "p", "response": ""}, "empty_response", "white space"),
        ({"prompt": "p", "response": "\\boxed{8}"}, "missing_answer", "answer"),
        ({"prompt": "p", "response": "\\boxed{8}", "answer": [8]}, "wrong_type", "found a list"),
        ({"prompt": "p", "response": "x " * 300, "answer": "8"}, "too_long", "the limit is 200"),
        (
            {"prompt": "p", "response": "<think>\\boxed{8}</think> 8", "answer": "8"},
            "no_boxed_answer",
            "after the trace",
        ),
        ({"prompt": "p", "response": "\\boxed{9}", "answer": 8}, "wrong_answer", '"9" is not "8"'),
    ]
    path = write_rows(tmp_path / "rows.jsonl", [*(row for row, _, _ in cases), b"", b"  ", SUM])
    reader = build(tmp_path / "out", tiny_tokenizer, path, verify="math")
    lines = rejects(tmp_path / "out")
    for number, (line, (row, reason, detail)) in enumerate(zip(lines, cases, strict=True), start=1):
        assert line.keys() == {"file", "line", "id", "reason", "detail"}
        assert (line["file"], line["line"], line["id"]) == ("rows.jsonl", number, f"rows.jsonl:{number}"), row
        assert line["reason"] == reason, row
        assert detail in line["detail"], line
    counts = reader.manifest["counts"]
    assert (counts["rows_read"], counts["rows_kept"], counts["rows_rejected"]) == (15, 1, 14)
    assert counts["blank_lines"] == 2
    assert sum(counts["rejected_by_reason"].values()) == 14
    assert "rows         15 read = 1 kept + 14 rejected" in capsys.readouterr().out


def test_length_limit_counts_prompt_response_and_stop(tiny_tokenizer: Path, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", [SUM])
    length = int(build(tmp_path / "out", tiny_tokenizer, rows).lengths[0])
    assert build(tmp_path / "equal", tiny_tokenizer, rows, max_length=length).num_samples == 1
    with pytest.raises(UserError, match="1 too_long"):
        build(tmp_path / "shorter", tiny_tokenizer, rows, max_length=length - 1)


def test_countdown_answers(tiny_tokenizer: Path, tmp_path: Path) -> None:
    task = {"numbers": [3, 5, 7], "target": 56}
    rows = [
        {"prompt": "p", "response": "<think>x</think>\\boxed{(3+5)\\times 7 = 56}", "answer": task},
        {"prompt": "p", "response": "<think>x</think>\\boxed{8*7}", "answer": task},
        {"prompt": "p", "response": "\\boxed{1}", "answer": "56"},
        {"prompt": "p", "response": "\\boxed{1}", "answer": {"numbers": [1.5], "target": 1}},
    ]
    reader = build(tmp_path / "out", tiny_tokenizer, write_rows(tmp_path / "r.jsonl", rows), verify="countdown")
    assert reader.num_samples == 1
    assert [line["reason"] for line in rejects(tmp_path / "out")] == ["wrong_answer", "wrong_type", "wrong_type"]


def test_a_template_that_refuses_a_row(tmp_path: Path) -> None:
    template = (
        "{% if messages | length > 1 %}{{ raise_exception('one turn only') }}{% endif %}{{ messages[0].content }}"
    )
    tokenizer = write_tokenizer(tmp_path / "tokenizer", template=template)
    two = {
        "message": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}],
        "response": "r",
        "id": "two",
    }
    empty = {"prompt": "", "response": "r", "id": "empty"}
    build(tmp_path / "out", tokenizer, write_rows(tmp_path / "rows.jsonl", [two, empty, SUM]))
    lines = rejects(tmp_path / "out")
    assert [(line["id"], line["reason"]) for line in lines] == [("two", "template_error"), ("empty", "template_error")]
    assert "one turn only" in lines[0]["detail"]


def test_equal_ids_are_labels_not_keys(tiny_tokenizer: Path, tmp_path: Path) -> None:
    other = SUM | {"prompt": "5 + 3?"}
    assert build(tmp_path / "out", tiny_tokenizer, write_rows(tmp_path / "r.jsonl", [SUM, other])).num_samples == 2


# ---- the folder ----


def many_rows(path: Path, count: int = 400) -> Path:
    """Rows of all kinds, enough for several chunks."""
    rows: list[Any] = []
    for i in range(count):
        rows.append(
            {
                "prompt": f"{i} + 1?",
                "response": f"<think>{'9 ' * (i % 37)}</think>\\boxed{{{i + i % 5 // 4}}}",
                "answer": i,
            }
        )
        rows += [b"broken"] * (i % 11 == 3) + [b""] * (i % 13 == 5) + [{"prompt": "p"}] * (i % 17 == 7)
    return write_rows(path, rows)


def test_bytes_do_not_depend_on_workers_or_place(tiny_tokenizer: Path, tmp_path: Path) -> None:
    inputs = [many_rows(tmp_path / "a.jsonl"), many_rows(tmp_path / "b.jsonl", 130)]
    options: dict[str, Any] = {"verify": "math", "max_length": 70}
    expected = build(tmp_path / "w1", tiny_tokenizer, *inputs, workers=1, **options)
    counts = expected.manifest["counts"]
    assert counts["rejected_by_reason"].keys() == {
        "duplicate", "malformed_json", "missing_field", "too_long", "wrong_answer",
    }  # fmt: skip
    assert counts["rows_read"] == counts["rows_kept"] + counts["rows_rejected"] > 530
    for workers in (2, 5):
        build(tmp_path / f"w{workers}", tiny_tokenizer, *inputs, workers=workers, **options)
        assert folder_bytes(tmp_path / f"w{workers}") == folder_bytes(tmp_path / "w1")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    moved = [path.rename(elsewhere / path.name) for path in inputs]
    build(elsewhere / "out", tiny_tokenizer, *moved, **options)
    assert folder_bytes(elsewhere / "out") == folder_bytes(tmp_path / "w1")


def test_manifest_describes_the_folder(tiny_tokenizer: Path, tmp_path: Path) -> None:
    reader = build(tmp_path / "out", tiny_tokenizer, many_rows(tmp_path / "rows.jsonl"), max_length=70, seed=3)
    manifest, chat = reader.manifest, ChatTokenizer(tiny_tokenizer)
    samples = [reader.sample(i) for i in range(reader.num_samples)]
    assert manifest["num_samples"] == len(samples) == manifest["counts"]["rows_kept"]
    assert manifest["tokens"] == sum(len(sample.tokens) for sample in samples) == reader.lengths.sum()
    assert manifest["trained_tokens"] == sum(int(sample.trained.sum()) for sample in samples)
    assert manifest["tokenizer_fingerprint"] == chat.fingerprint
    assert (manifest["stop_id"], manifest["stop_token"]) == (chat.eos_id, "<|im_end|>")
    assert manifest["vocab_size"] == chat.vocab_size
    lengths = manifest["lengths"]
    assert (lengths["min"], lengths["max"]) == (reader.lengths.min(), reader.lengths.max())
    buckets = np.bincount((reader.lengths - 1) // lengths["bucket_tokens"], minlength=len(lengths["histogram"]))
    assert buckets.tolist() == lengths["histogram"]
    assert manifest["configuration"]["max_length"] == 70
    assert manifest["configuration"]["seed"] == 3
    assert manifest["shards"] == [
        {"prefix": "samples-00000"} | {key: manifest[key] for key in ("num_samples", "tokens", "trained_tokens")}
    ]
    assert manifest["files"].keys() == {"samples-00000.bin", "samples-00000.idx", "rejects.jsonl"}
    assert [record["name"] for record in manifest["inputs"]] == ["rows.jsonl"]
    assert str(tmp_path) not in (tmp_path / "out" / "manifest.json").read_text()


def test_fingerprint_follows_content_and_policy(tiny_tokenizer: Path, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", [SUM, GOOD])
    base = build(tmp_path / "base", tiny_tokenizer, rows).fingerprint
    same = write_rows(tmp_path / "renamed.jsonl", [SUM, GOOD])
    assert build(tmp_path / "same", tiny_tokenizer, same, seed=5, workers=3).fingerprint == base
    others = [
        build(tmp_path / "o1", tiny_tokenizer, rows, max_length=199),
        build(tmp_path / "o2", tiny_tokenizer, rows, stop_token="<|endoftext|>"),
        build(tmp_path / "o3", tiny_tokenizer, write_rows(tmp_path / "other.jsonl", [GOOD, SUM])),
        build(tmp_path / "o4", write_tokenizer(tmp_path / "t", template="x{{ messages[0].content }}"), rows),
        build(tmp_path / "o5", tiny_tokenizer, rows, verify="math"),
    ]
    assert len({base, *(reader.fingerprint for reader in others)}) == 6


def test_an_equal_build_is_reused_and_another_needs_overwrite(
    tiny_tokenizer: Path, tmp_path: Path, capsys: Any
) -> None:
    rows, output = write_rows(tmp_path / "rows.jsonl", [SUM, GOOD]), tmp_path / "out"
    build(output, tiny_tokenizer, rows)
    before = {path.name: path.stat().st_mtime_ns for path in output.iterdir()}
    build(output, tiny_tokenizer, rows)
    assert {path.name: path.stat().st_mtime_ns for path in output.iterdir()} == before
    assert "already holds these shards" in capsys.readouterr().out

    with pytest.raises(UserError, match=r"another fingerprint.*--overwrite"):
        build(output, tiny_tokenizer, rows, max_length=150)
    assert ShardReader(output, verify=True).manifest["configuration"]["max_length"] == 200
    assert (
        build(output, tiny_tokenizer, rows, max_length=150, overwrite=True).manifest["configuration"]["max_length"]
        == 150
    )


def test_damaged_shards_are_not_reused(tiny_tokenizer: Path, tmp_path: Path) -> None:
    rows, output = write_rows(tmp_path / "rows.jsonl", [SUM, GOOD]), tmp_path / "out"
    build(output, tiny_tokenizer, rows)
    content = bytearray((output / "samples-00000.bin").read_bytes())
    content[5] ^= 1
    (output / "samples-00000.bin").write_bytes(content)
    with pytest.raises(UserError, match=r"damaged or missing samples-00000\.bin.*--overwrite"):
        build(output, tiny_tokenizer, rows)
    build(output, tiny_tokenizer, rows, overwrite=True)


def test_leftovers_of_a_killed_build_are_removed(tiny_tokenizer: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.mkdir()
    for name in ("samples-00000.bin.partial", "samples-00000.idx", "rejects.jsonl.partial", "manifest.json.partial"):
        (output / name).write_text("half")
    (output / "notes.txt").write_text("mine")
    build(output, tiny_tokenizer, write_rows(tmp_path / "rows.jsonl", [SUM]))
    assert {path.name for path in output.iterdir()} == {
        "manifest.json", "samples-00000.bin", "samples-00000.idx", "rejects.jsonl", "notes.txt",
    }  # fmt: skip


def test_a_killed_build_leaves_no_manifest_and_the_next_one_succeeds(tiny_tokenizer: Path, tmp_path: Path) -> None:
    rows, output = many_rows(tmp_path / "rows.jsonl", 40_000), tmp_path / "out"
    command = [sys.executable, "-m", "megatron_sft.data.build_shards", str(rows), "--output", str(output),
               "--tokenizer", str(tiny_tokenizer), "--max-length", "200", "--workers", "1"]  # fmt: skip
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (output / "samples-00000.bin.partial").exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (output / "manifest.json").exists()
    assert (output / "samples-00000.bin.partial").exists()
    small = write_rows(tmp_path / "small.jsonl", [SUM])
    build(output, tiny_tokenizer, small, overwrite=True)
    build(tmp_path / "fresh", tiny_tokenizer, small)
    assert folder_bytes(output) == folder_bytes(tmp_path / "fresh")


def test_two_builds_do_not_share_a_folder(tiny_tokenizer: Path, tmp_path: Path) -> None:
    import fcntl

    output = tmp_path / "out"
    output.mkdir()
    handle = os.open(output, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    rows = write_rows(tmp_path / "rows.jsonl", [SUM])
    with pytest.raises(UserError, match="another build is writing here"):
        build(output, tiny_tokenizer, rows)
    os.close(handle)
    build(output, tiny_tokenizer, rows)


def test_a_full_disk_is_reported_and_leaves_no_manifest(tiny_tokenizer: Path, tmp_path: Path) -> None:
    """A limit on file sizes stands in for the full disk: the write fails with an error of the system."""
    rows, output = many_rows(tmp_path / "rows.jsonl", 3000), tmp_path / "out"
    program = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
        "from megatron_sft import cli\n"
        "from megatron_sft.data.build_shards import BuildShardsConfig, main\n"
        "sys.exit(cli.run(BuildShardsConfig, main, prog='build_shards'))\n"
    )
    options = ["--output", str(output), "--tokenizer", str(tiny_tokenizer), "--max-length", "200"]
    result = subprocess.run(
        [sys.executable, "-c", program, str(rows), *options],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2, result.stderr
    assert "samples-00000.bin.partial: cannot write: File too large" in result.stderr
    assert not output.exists()


def test_read_errors_name_the_file(tiny_tokenizer: Path, tmp_path: Path) -> None:
    whole = gzip.compress(many_rows(tmp_path / "rows.jsonl").read_bytes())
    (tmp_path / "cut.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"cut\.jsonl\.gz: cannot be read"):
        build(tmp_path / "out", tiny_tokenizer, tmp_path / "cut.jsonl.gz")
    (tmp_path / "cut.parquet").write_bytes(b"PAR1 no table")
    with pytest.raises(UserError, match=r"cut\.parquet: cannot be read"):
        build(tmp_path / "out", tiny_tokenizer, tmp_path / "cut.parquet")
    assert not (tmp_path / "out").exists()


def test_an_exception_in_the_progress_function_stops_the_build(tiny_tokenizer: Path, tmp_path: Path) -> None:
    from megatron_sft._native import build_shards

    rows, output = many_rows(tmp_path / "rows.jsonl", 40_000), tmp_path / "out"
    config = BuildShardsConfig(inputs=(str(rows),), output=output, tokenizer=tiny_tokenizer, max_length=200)
    options = build_options(config)
    calls = []

    def progress(status: str) -> None:
        calls.append(json.loads(status))
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        build_shards(json.dumps(options), ChatTokenizer(tiny_tokenizer), progress)
    assert calls[0]["bytes_total"] == rows.stat().st_size
    assert not output.exists()
    with pytest.raises(UserError, match="unknown field `surprise`"):
        build_shards(json.dumps(options | {"surprise": 1}), ChatTokenizer(tiny_tokenizer))


# ---- the program ----


def run_program(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"VIRTUAL_ENV": sys.prefix}
    command = [str(REPOSITORY / "tools" / "build_shards"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_program_prints_decisions_sample_and_account(tiny_tokenizer: Path, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", [SUM, b"broken", GOOD])
    options = ["--output", str(tmp_path / "out"), "--tokenizer", str(tiny_tokenizer), "--max-length", "100"]
    result = run_program(str(tmp_path / "*.jsonl"), *options)
    assert result.returncode == 0, result.stderr
    for line in (
        str(rows),
        "'<|im_end|>'",
        "the eos_token of tokenizer_config.json",
        "reject above 100 tokens",
        "masked ",
        "'<|im_start|>user\\n3 + 5?<|im_end|>\\n<|im_start|>assistant\\n'",
        "trained",
        "3 read = 2 kept + 1 rejected",
        "1 malformed_json",
    ):
        assert line in result.stdout
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rows.jsonl", "--max-lenght", "9"], "max-lenght"),
        (["rows.jsonl", "--verify", "maybe"], "maybe"),
        (["none*.jsonl"], "'none*.jsonl' matches no file"),
        ([], "name at least one"),
        (["rows.csv"], "unknown ending"),
        (["rows.jsonl", "rows.jsonl"], "named twice"),
        (["rows.jsonl", "--max-length", "1"], "--max-length 1 is out of range"),
        (["rows.jsonl", "--max-length", "-5"], "-5"),
        (["rows.jsonl", "--workers", "0"], "--workers 0"),
        (["bad.jsonl"], "all 2 rows were rejected (1 malformed_json, 1 missing_field); the first: bad.jsonl:1"),
        (["empty.jsonl"], "hold no row at all"),
        (["rows.jsonl", "--tokenizer", "no-template"], "no chat template; add chat_template.jinja"),
        (["rows.jsonl", "--tokenizer", "absent"], "no such folder"),
        (["rows.jsonl", "--stop-token", "<none>"], "not one token"),
    ],
)
def test_errors_exit_2_and_leave_no_folder(
    arguments: list[str], message: str, tiny_tokenizer: Path, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "rows.jsonl", [SUM])
    write_rows(tmp_path / "bad.jsonl", [b"broken", {"prompt": "p"}])
    write_rows(tmp_path / "empty.jsonl", [b"", b" "])
    (tmp_path / "rows.csv").write_text("a,b")
    write_tokenizer(tmp_path / "no-template", template=None)
    defaults = {"--output": "out", "--tokenizer": str(tiny_tokenizer), "--max-length": "100"}
    options = [part for pair in defaults.items() if pair[0] not in arguments for part in pair]
    try:
        status = cli.run(BuildShardsConfig, main, prog="build_shards", argv=[*arguments, *options])
    except SystemExit as error:
        status = error.code
    assert status == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()
