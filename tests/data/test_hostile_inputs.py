"""Inputs that are broken in every way: each bad row is counted and named by file and line, and none ends the build."""

import collections
import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from megatron_sft.data.build_shards import BuildShardsConfig, FilterConfig, main
from megatron_sft.data.shards import ShardReader
from megatron_sft.errors import UserError
from tests.conftest import REPOSITORY

# Text is tokenized before it is found too long; a line of more than a 16th of the memory is not read at all.
LONG_TEXT_MEGABYTES = 30
GOOD = b'{"id": "good", "prompt": "3 + 5?", "response": "<think>\\n8\\n</think>\\n\\n\\\\boxed{8}"}'
# Each line and the reason that it is rejected for; None for a row that is kept, "blank" for a line that is no row.
LINES: list[tuple[bytes, str | None]] = [
    (GOOD, None),
    (b"", "blank"),
    (b" \t\r", "blank"),
    # Not JSON, or not a whole object.
    (b"not json", "malformed_json"),
    (b"{", "malformed_json"),
    (b"}", "malformed_json"),
    (GOOD[:-1], "malformed_json"),
    (GOOD + b" trailing", "malformed_json"),
    (GOOD + GOOD, "malformed_json"),
    (b'{"prompt": "p", "response": "cut', "malformed_json"),
    (b'{"prompt": "p", "response": "r", "response": "s"}', "malformed_json"),
    (b'{"prompt": "p", "response": "bad \\x escape"}', "malformed_json"),
    (b'{"prompt": "p", "response": "half a pair \\ud800"}', "malformed_json"),
    (b'{"prompt": "p", "response": "raw \x01 control"}', "malformed_json"),
    (b'{"prompt": "p", "response": NaN}', "malformed_json"),
    (b"{'prompt': 'p', 'response': 'r'}", "malformed_json"),
    (b"\x00", "malformed_json"),
    (b"\x00" * 1000, "malformed_json"),
    (b'{"prompt": "p", "response": "raw NUL \x00"}', "malformed_json"),
    (b'{"a": ' + b"[" * 100_000, "malformed_json"),
    (b'{"a":' * 20_000, "malformed_json"),
    # Not UTF-8.
    (b'{"prompt": "p", "response": "\xff\xfe"}', "invalid_utf8"),
    (b'{"prompt": "p", "response": "cut \xe2\x82"}', "invalid_utf8"),
    (b'{"prompt": "p", "response": "overlong \xc0\xaf"}', "invalid_utf8"),
    (b'{"prompt": "p", "response": "surrogate \xed\xa0\x80"}', "invalid_utf8"),
    # Fields absent or of a wrong type.
    (b"{}", "missing_field"),
    (b'{"prompt": "p"}', "missing_field"),
    (b'{"response": "r"}', "missing_field"),
    (b'{"prompt": null, "response": "r"}', "missing_field"),
    (b'{"prompt": "p", "response": null}', "missing_field"),
    (b'{"message": [{"role": "user"}], "response": "r"}', "missing_field"),
    (b'{"prompt": 7, "response": "r"}', "wrong_type"),
    (b'{"prompt": "p", "response": ["r"]}', "wrong_type"),
    (b'{"prompt": "p", "response": {"text": "r"}}', "wrong_type"),
    (b'{"message": "hello", "response": "r"}', "wrong_type"),
    (b'{"message": {"role": "user", "content": "p"}, "response": "r"}', "wrong_type"),
    (b'{"message": [{"role": 1, "content": "p"}], "response": "r"}', "wrong_type"),
    (b'{"message": [["user", "p"]], "response": "r"}', "wrong_type"),
    (b'{"prompt": "p", "response": "r", "id": [1]}', "wrong_type"),
    (b"[]", "wrong_type"),
    (b"7", "wrong_type"),
    (b'"text"', "wrong_type"),
    (b"null", "wrong_type"),
    # Nothing to learn.
    (b'{"prompt": "p", "response": ""}', "empty_response"),
    (b'{"prompt": "p", "response": " \\n\\t"}', "empty_response"),
    # Strange but right.
    (b"\xef\xbb\xbf" + GOOD, "malformed_json"),
    (b"  " + GOOD + b" \r", None),
    (b'{"prompt": "p", "response": "NUL as an escape: \\u0000"}', None),
    (b'{"prompt": "p", "response": "a pair: \\ud83d\\ude00, \\u202e and \\u2028"}', None),
    (b'{"prompt": "p", "response": "r", "other": [1e400, -0, {"deep": [[[[]]]]}]}', None),
    (GOOD, None),
]


def build(output: Path, tokenizer: Path, *inputs: Path, workers: int = 2, max_length: int = 200) -> ShardReader:
    config = BuildShardsConfig(
        inputs=tuple(map(str, inputs)), output=output, tokenizer=tokenizer, max_length=max_length, workers=workers,
        keep_duplicates=True, filters=FilterConfig(max_undecodable_share=None),
    )  # fmt: skip
    main(config)
    return ShardReader(output, verify=True)


def rejects(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "rejects.jsonl").read_text(encoding="utf-8").splitlines()]


def check_account(reader: ShardReader) -> list[dict[str, Any]]:
    """The sums that must always hold, between manifest, rejects and shards; returns the rejects."""
    counts, found = reader.manifest["counts"], rejects(reader.folder)
    assert counts["rows_read"] == counts["rows_kept"] + counts["rows_rejected"]
    assert counts["rows_kept"] == reader.num_samples
    assert counts["rows_rejected"] == len(found)
    assert collections.Counter(reject["reason"] for reject in found) == counts["rejected_by_reason"]
    assert sum(record["rows_read"] for record in reader.manifest["inputs"]) == counts["rows_read"]
    return found


def test_every_bad_line_is_named_and_every_good_one_kept(tiny_tokenizer: Path, tmp_path: Path) -> None:
    # The last line has no end, as after a download that was cut at the right place.
    (tmp_path / "hostile.jsonl").write_bytes(b"\n".join(line for line, _ in LINES))
    reader = build(tmp_path / "out", tiny_tokenizer, tmp_path / "hostile.jsonl")
    found = check_account(reader)
    expected = [(number, why) for number, (_, why) in enumerate(LINES, start=1) if why not in (None, "blank")]
    assert [(reject["line"], reject["reason"]) for reject in found] == expected
    assert {reject["file"] for reject in found} == {"hostile.jsonl"}
    assert all(reject["detail"] for reject in found)
    whys = [why for _, why in LINES]
    assert reader.num_samples == whys.count(None)
    assert reader.manifest["counts"]["blank_lines"] == whys.count("blank")
    assert len(expected) > 30


def test_the_number_of_workers_and_the_compression_change_nothing(tiny_tokenizer: Path, tmp_path: Path) -> None:
    content = b"\n".join(line for line, _ in LINES) + b"\n"
    (tmp_path / "a.jsonl").write_bytes(content * 20)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(content * 20))
    one = build(tmp_path / "one", tiny_tokenizer, tmp_path / "a.jsonl", workers=1)
    three = build(tmp_path / "three", tiny_tokenizer, tmp_path / "a.jsonl", workers=3)
    packed = build(tmp_path / "packed", tiny_tokenizer, tmp_path / "a.jsonl.gz")
    assert len(check_account(one)) > 600
    for path in one.folder.iterdir():
        assert path.read_bytes() == (three.folder / path.name).read_bytes()
    assert one.num_samples == packed.num_samples
    for left, right in zip(check_account(one), check_account(packed), strict=True):
        assert (left["line"], left["reason"], left["detail"]) == (right["line"], right["reason"], right["detail"])


def test_lines_are_counted_across_many_files(tiny_tokenizer: Path, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.jsonl").write_bytes(GOOD + b"\n\n" + b"broken\n" * (ord(name) - 95) + GOOD)
    paths = [tmp_path / "b.jsonl", tmp_path / "a.jsonl", tmp_path / "c.jsonl"]
    found = check_account(build(tmp_path / "out", tiny_tokenizer, *paths))
    expected = [("b", 3), ("b", 4), ("b", 5), ("a", 3), ("a", 4), *(("c", line) for line in range(3, 7))]
    assert [(reject["file"], reject["line"]) for reject in found] == [
        (f"{name}.jsonl", line) for name, line in expected
    ]


@pytest.mark.parametrize("content", [b"", b"\n", b"\n" * 5000, b" \n\t\n", b"\x00" * 4096, b"\xff" * 4096])
def test_files_without_a_good_row_are_an_error_that_names_one(
    content: bytes, tiny_tokenizer: Path, tmp_path: Path
) -> None:
    (tmp_path / "rows.jsonl").write_bytes(content)
    with pytest.raises(UserError, match=r"rows\.jsonl|hold no row at all"):
        build(tmp_path / "out", tiny_tokenizer, tmp_path / "rows.jsonl")
    assert not (tmp_path / "out").exists()


# ---- long lines ----


def write_long_line(path: Path, megabytes: int, line: str) -> None:
    """A good row, one line of `megabytes`, another good row."""
    blocks = {"text": b"so 17 + 4 = 21, no. ", "broken": b'{"[\x01', "spaces": b" " * 20, "escapes": b"\\u0041\\n"}
    with path.open("wb") as file:
        file.write(GOOD + b"\n")
        file.write(b'{"prompt": "p", "response": "' if line in ("text", "escapes") else b"")
        file.write(blocks[line] * (megabytes * 1_000_000 // len(blocks[line])))
        file.write(b'"}' if line in ("text", "escapes") else b"")
        file.write(b"\n" + GOOD + b"\n")


@pytest.mark.parametrize(("line", "reason"), [("broken", "malformed_json"), ("spaces", None)])
def test_a_long_line_of_nonsense(line: str, reason: str | None, tiny_tokenizer: Path, tmp_path: Path) -> None:
    write_long_line(tmp_path / "rows.jsonl", 60, line)
    reader = build(tmp_path / "out", tiny_tokenizer, tmp_path / "rows.jsonl")
    found = check_account(reader)
    assert reader.num_samples == 2
    assert [(reject["line"], reject["reason"]) for reject in found] == ([(2, reason)] if reason else [])
    assert all(len(reject["detail"]) < 1000 for reject in found)


@pytest.mark.parametrize("line", ["text", "escapes"])
def test_a_long_line_of_text_is_too_long(line: str, tiny_tokenizer: Path, tmp_path: Path) -> None:
    write_long_line(tmp_path / "rows.jsonl", LONG_TEXT_MEGABYTES, line)
    reader = build(tmp_path / "out", tiny_tokenizer, tmp_path / "rows.jsonl")
    assert [(r["line"], r["reason"]) for r in check_account(reader)] == [(2, "too_long")]


@pytest.mark.slow
@pytest.mark.parametrize("line", ["text", "broken"])
def test_a_line_of_200_megabytes(line: str, tiny_tokenizer: Path, tmp_path: Path) -> None:
    write_long_line(tmp_path / "rows.jsonl", 200, line)
    reader = build(tmp_path / "out", tiny_tokenizer, tmp_path / "rows.jsonl")
    assert [(r["line"], r["reason"]) for r in check_account(reader)] == [(2, "line_too_long")]
    assert reader.num_samples == 2
    assert reader.num_samples == 2


@pytest.mark.slow
def test_a_line_beyond_the_limit_is_rejected_without_being_held(tiny_tokenizer: Path, tmp_path: Path) -> None:
    """A line of 600 MB in a process that stays far below that."""
    write_long_line(tmp_path / "rows.jsonl", 600, "text")
    program = (
        "import sys\n"
        "from megatron_sft import cli\n"
        "from megatron_sft.data.build_shards import BuildShardsConfig, main\n"
        "status = cli.run(BuildShardsConfig, main, prog='build_shards')\n"
        "print(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')))\n"
        "sys.exit(status)\n"
    )
    command = [
        sys.executable, "-c", program, str(tmp_path / "rows.jsonl"), "--output", str(tmp_path / "out"),
        "--tokenizer", str(tiny_tokenizer), "--max-length", "200", "--workers", "2", "--keep-duplicates",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    found = check_account(ShardReader(tmp_path / "out"))
    assert [(reject["line"], reject["reason"]) for reject in found] == [(2, "line_too_long")]
    peak_kib = int(done.stdout.split("VmHWM:")[1].split()[0])
    assert peak_kib < 300_000


# ---- files that end too soon ----


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_gzip_is_an_error_that_names_the_file(share: float, tiny_tokenizer: Path, tmp_path: Path) -> None:
    whole = gzip.compress(b"".join(b'{"prompt": "%d", "response": "%d"}\n' % (i, i * i) for i in range(3000)))
    (tmp_path / "good.jsonl").write_bytes(GOOD)
    # Cut within its header, its data, or its checksum.
    (tmp_path / "cut.jsonl.gz").write_bytes(whole[: max(int(len(whole) * share), 5)])
    with pytest.raises(UserError, match=r"cut\.jsonl\.gz: cannot be read"):
        build(tmp_path / "out", tiny_tokenizer, tmp_path / "good.jsonl", tmp_path / "cut.jsonl.gz")
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_a_damaged_gzip_is_an_error_that_names_the_file(tiny_tokenizer: Path, tmp_path: Path) -> None:
    content = bytearray(gzip.compress(b"".join(GOOD + b" " * i + b"\n" for i in range(300))))
    content[-6] ^= 1
    (tmp_path / "bad.jsonl.gz").write_bytes(content)
    with pytest.raises(UserError, match=r"bad\.jsonl\.gz: cannot be read"):
        build(tmp_path / "out", tiny_tokenizer, tmp_path / "bad.jsonl.gz")
    assert not (tmp_path / "out" / "manifest.json").exists()


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_parquet_is_an_error_that_names_the_file(
    share: float, tiny_tokenizer: Path, tmp_path: Path
) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = [{"prompt": f"{i}", "response": f"{i * i} " * 20} for i in range(2000)]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "whole.parquet", row_group_size=300)
    whole = (tmp_path / "whole.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(UserError, match=r"cut\.parquet: cannot be read"):
        build(tmp_path / "out", tiny_tokenizer, tmp_path / "cut.parquet")
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_damaged_pages_of_a_parquet_are_an_error_that_names_the_file(tiny_tokenizer: Path, tmp_path: Path) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = [{"prompt": f"{i}", "response": f"{i * i} " * 20} for i in range(2000)]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "bad.parquet", compression="zstd")
    content = bytearray((tmp_path / "bad.parquet").read_bytes())
    middle = len(content) // 2
    content[middle : middle + 64] = b"\xff" * 64
    (tmp_path / "bad.parquet").write_bytes(content)
    with pytest.raises(UserError, match=r"bad\.parquet: cannot be read"):
        build(tmp_path / "out", tiny_tokenizer, tmp_path / "bad.parquet")
    assert not (tmp_path / "out" / "manifest.json").exists()
