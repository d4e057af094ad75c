"""`tools/build_shards`: interrupted builds, parts on several machines, and limits of memory."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from megatron_sft.data.build_shards import BuildShardsConfig, main, parse_size
from megatron_sft.data.shards import ShardReader
from megatron_sft.errors import UserError
from tests.conftest import REPOSITORY
from tests.data.test_build_choices import responses
from tests.data.test_build_shards import SUM, build, folder_bytes, many_rows, rejects, write_rows


def finished_work(output: Path) -> int:
    """Complete shards and pieces of processed rows of an unfinished build."""
    return len(list(output.glob("samples-*.idx.partial"))) + len(list(output.glob("spool/*.done")))


def start(arguments: list[str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "megatron_sft.data.build_shards", *arguments]
    return subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finish(process: subprocess.Popen[bytes]) -> None:
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr.decode()


def kill_after_some_work(process: subprocess.Popen[bytes], output: Path) -> bool:
    """Kill the build once it has finished more than before; False when it was done first."""
    before = finished_work(output)
    while process.poll() is None:
        if finished_work(output) > before:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            return not (output / "manifest.json").exists()
        time.sleep(0.002)
    return False


def test_shards_end_at_their_size_and_are_read_as_one(tiny_tokenizer: Path, tmp_path: Path) -> None:
    rows = many_rows(tmp_path / "rows.jsonl")
    one = build(tmp_path / "one", tiny_tokenizer, rows)
    many = build(tmp_path / "many", tiny_tokenizer, rows, shard_tokens=1000)
    assert len(many.manifest["shards"]) > 5
    assert all(1000 <= shard["tokens"] < 1200 for shard in many.manifest["shards"][:-1])
    assert many.fingerprint == one.fingerprint
    assert many.lengths.tolist() == one.lengths.tolist()
    for index in range(one.num_samples):
        assert many.sample(index).tokens.tolist() == one.sample(index).tokens.tolist()
    with pytest.raises(UserError, match="in shards of another size"):
        build(tmp_path / "one", tiny_tokenizer, rows, shard_tokens=1000)


@pytest.mark.parametrize("select", ["all", "random-correct"])
def test_a_killed_build_goes_on_and_gives_the_same_bytes(select: str, tiny_tokenizer: Path, tmp_path: Path) -> None:
    rows, output = many_rows(tmp_path / "rows.jsonl", 60_000), tmp_path / "out"
    options = ["--tokenizer", str(tiny_tokenizer), "--max-length", "200", "--shard-tokens", "20000",
               "--select", select]  # fmt: skip
    finish(start([str(rows), "--output", str(tmp_path / "whole"), *options]))
    kills = 0
    while kills < 4 and kill_after_some_work(start([str(rows), "--output", str(output), *options]), output):
        kills += 1
        with pytest.raises(UserError, match=r"no manifest\.json"):
            ShardReader(output)
    assert kills > 1, "the build was done before it could be killed; the test proved nothing"
    if not (output / "manifest.json").exists():
        finish(start([str(rows), "--output", str(output), *options]))
    assert folder_bytes(output) == folder_bytes(tmp_path / "whole")


def test_an_unfinished_build_of_other_options_is_refused(tiny_tokenizer: Path, tmp_path: Path) -> None:
    rows, output = many_rows(tmp_path / "rows.jsonl", 60_000), tmp_path / "out"
    arguments = [str(rows), "--output", str(output), "--tokenizer", str(tiny_tokenizer), "--max-length", "200",
                 "--shard-tokens", "20000", "--workers", "1"]  # fmt: skip
    deadline = time.monotonic() + 60
    process = start(arguments)
    while not (output / "build.journal").exists() and time.monotonic() < deadline:
        time.sleep(0.002)
    process.kill()
    process.communicate()
    assert (output / "build.journal").exists()
    with pytest.raises(UserError, match=r"an unfinished build of other inputs.*--overwrite"):
        build(output, tiny_tokenizer, rows, max_length=100)
    small = write_rows(tmp_path / "small.jsonl", [SUM])
    build(output, tiny_tokenizer, small, overwrite=True)
    build(tmp_path / "fresh", tiny_tokenizer, small)
    assert folder_bytes(output) == folder_bytes(tmp_path / "fresh")


def test_a_damaged_unfinished_build_is_not_used(tiny_tokenizer: Path, tmp_path: Path) -> None:
    good, bad, output = many_rows(tmp_path / "a.jsonl"), tmp_path / "b.jsonl.gz", tmp_path / "out"
    bad.write_bytes(b"no gzip")
    with pytest.raises(UserError, match=r"b\.jsonl\.gz: cannot be read"):
        build(output, tiny_tokenizer, good, bad, shard_tokens=1000)
    shard = output / "samples-00001.bin.partial"
    content = bytearray(shard.read_bytes())
    content[8] ^= 1
    shard.write_bytes(content)
    with pytest.raises(UserError, match=r"samples-00001\.bin is damaged; start over with --overwrite"):
        build(output, tiny_tokenizer, good, bad, shard_tokens=1000)


@pytest.mark.parametrize("select", ["all", "random-correct"])
def test_parts_give_the_bytes_of_one_machine(select: str, tiny_tokenizer: Path, tmp_path: Path, capsys: Any) -> None:
    inputs = [responses(tmp_path / "a.jsonl", 30, 3), many_rows(tmp_path / "b.jsonl", 90),
              responses(tmp_path / "c.jsonl", 35, 4)]  # fmt: skip
    options: dict[str, Any] = {"select": select, "verify": "math", "shard_tokens": 1500}
    build(tmp_path / "one", tiny_tokenizer, *inputs, **options)
    for part in ("2/2", "1/2"):
        config = BuildShardsConfig(
            inputs=tuple(map(str, inputs)), output=tmp_path / "parts", tokenizer=tiny_tokenizer, max_length=200,
            part=part, **options,
        )  # fmt: skip
        main(config)
    assert not (tmp_path / "parts" / "manifest.json").exists()
    done = {path.name[:5] for path in (tmp_path / "parts" / "spool").glob("*.done")}
    assert done == {"00000", "00001", "00002"}
    capsys.readouterr()
    build(tmp_path / "parts", tiny_tokenizer, *inputs, **options)
    assert folder_bytes(tmp_path / "parts") == folder_bytes(tmp_path / "one")
    with pytest.raises(UserError, match="parts count from 1 to 2"):
        build(tmp_path / "no", tiny_tokenizer, *inputs, part="3/2", **options)
    with pytest.raises(UserError, match="write K/N"):
        build(tmp_path / "no", tiny_tokenizer, *inputs, part="3", **options)


def test_results_of_other_options_are_not_taken_from_the_spool(tiny_tokenizer: Path, tmp_path: Path) -> None:
    rows, output = many_rows(tmp_path / "rows.jsonl", 60), tmp_path / "out"
    common: dict[str, Any] = {"inputs": (str(rows),), "output": output, "tokenizer": tiny_tokenizer}
    main(BuildShardsConfig(**common, max_length=40, part="1/1"))
    build(output, tiny_tokenizer, rows, max_length=200)
    build(tmp_path / "fresh", tiny_tokenizer, rows, max_length=200)
    assert folder_bytes(output) == folder_bytes(tmp_path / "fresh")


def test_a_line_beyond_the_memory_is_rejected_unread(tiny_tokenizer: Path, tmp_path: Path) -> None:
    """A 16th of the memory is the limit of a line: 16 MiB of 256 MiB."""
    rows = tmp_path / "rows.jsonl"
    long = json.dumps({"prompt": "p", "response": "x" * (20 << 20)}).encode()
    good = json.dumps(SUM).encode()
    rows.write_bytes(good + b"\n" + long + b"\n" + b"broken\n" + good.replace(b"3 + 5", b"5 + 3") + b"\n" + long)
    reader = build(tmp_path / "out", tiny_tokenizer, rows, memory="256MiB")
    assert reader.num_samples == 2
    lines = rejects(tmp_path / "out")
    assert [(line["line"], line["reason"]) for line in lines] == [
        (2, "line_too_long"),
        (3, "malformed_json"),
        (5, "line_too_long"),
    ]
    assert f"{len(long) + 1} bytes; lines of more than 16 MiB are not read" in lines[0]["detail"]


def test_sizes() -> None:
    assert parse_size("--memory", "512MiB") == 512 << 20
    assert parse_size("--memory", "1.5 gb") == 1_500_000_000
    for text in ("much", "-1GiB", "1 TiB x"):
        with pytest.raises(UserError, match="is not a size"):
            parse_size("--memory", text)


def test_dry_run_shows_the_first_sample_and_writes_nothing(tiny_tokenizer: Path, tmp_path: Path, capsys: Any) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", [b"broken", SUM])
    config = BuildShardsConfig(
        inputs=(str(rows),), output=tmp_path / "out", tokenizer=tiny_tokenizer, max_length=200, dry_run=True
    )
    main(config)
    shown = capsys.readouterr().out
    assert "first sample (after 2 row(s)); nothing was written" in shown
    assert "trained" in shown
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_ray_gives_the_bytes_of_one_machine(tiny_tokenizer: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    inputs = [responses(tmp_path / f"{name}.jsonl", 20 + i, 3) for i, name in enumerate("abcd")]
    options: dict[str, Any] = {"select": "random-correct", "verify": "math", "shard_tokens": 1000}
    build(tmp_path / "one", tiny_tokenizer, *inputs, **options)
    program = [sys.executable, "-m", "megatron_sft.data.build_shards", *map(str, inputs), "--output",
               str(tmp_path / "ray"), "--tokenizer", str(tiny_tokenizer), "--max-length", "200", "--select",
               "random-correct", "--verify", "math", "--shard-tokens", "1000", "--engine", "ray",
               "--workers", "1"]  # fmt: skip
    done = subprocess.run(program, cwd=REPOSITORY, capture_output=True, text=True, check=False, env=os.environ)
    assert done.returncode == 0, done.stderr
    assert "4 of 4" in done.stdout
    assert folder_bytes(tmp_path / "ray") == folder_bytes(tmp_path / "one")
