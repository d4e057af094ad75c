"""`tools/inspect_shards`: the table, one sample in each of its views, damage by file name, the first difference."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from megatron_sft import cli
from megatron_sft.data.build_shards import BuildShardsConfig, FilterConfig
from megatron_sft.data.build_shards import main as build_shards
from megatron_sft.data.inspect_shards import InspectShardsConfig, main
from megatron_sft.data.shards import ShardReader
from tests.conftest import REPOSITORY, write_tokenizer

SUM = {"id": "sum", "prompt": "3 + 5?", "response": "<think>\n8\n</think>\n\n\\boxed{8}", "answer": "8"}
HOSTILE = {"prompt": "clear \x1b[2J\x9b1m", "response": "[masked, 3 tokens]\n\u202eevil\x07"}


def build(output: Path, tokenizer: Path, rows: list[Any], **options: Any) -> Path:
    source = output.with_suffix(".jsonl")
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    config = BuildShardsConfig(
        inputs=(str(source),), output=output, tokenizer=tokenizer, max_length=200, keep_duplicates=True,
        filters=FilterConfig(max_undecodable_share=None), **options,
    )  # fmt: skip
    build_shards(config)
    return output


def inspect(*arguments: object) -> int:
    """Run the program in this process; returns its status."""
    try:
        return cli.run(InspectShardsConfig, main, prog="inspect_shards", argv=[str(part) for part in arguments])
    except SystemExit as error:
        return int(error.code or 0)


@pytest.fixture
def shards(tiny_tokenizer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    folder = build(tmp_path / "shards", tiny_tokenizer, [SUM, HOSTILE, {"prompt": "no response"}])
    capsys.readouterr()
    return folder


def test_the_table_shows_counts_lengths_inputs_and_files(shards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert inspect(shards) == 0
    output = capsys.readouterr().out
    reader = ShardReader(shards)
    assert f"tokens       {reader.lengths.sum()}, of these trained {reader.trained_tokens.sum()}" in output
    assert f"shortest {reader.lengths.min()}," in output and f"longest {reader.lengths.max()} tokens" in output
    assert re.search(r"^ +missing_field +1$", output, re.M)
    assert re.search(r"^ +max_length +200$", output, re.M)
    assert re.search(r"^ +shards\.jsonl +\d+ +[0-9a-f]{64} +3 +2$", output, re.M)
    assert all(name in output for name in reader.manifest["files"])
    assert reader.fingerprint in output
    counts = [int(match[1]) for match in re.finditer(r"^ +\d+ to +\d+ +(\d+) ?[█▏]*$", output, re.M)]
    assert sum(counts) == reader.num_samples == 2


def test_unknown_keys_of_a_manifest_are_shown(shards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = json.loads((shards / "manifest.json").read_text())
    manifest["news"] = {"colour\x1b": "blue\x1b[0m", "many": list(range(50)), "parts": [{"a": 1}, {"a": 2, "b": None}]}
    (shards / "manifest.json").write_text(json.dumps(manifest))
    assert inspect(shards) == 0
    output = capsys.readouterr().out
    assert "colour\\x1b  blue\\x1b[0m" in output
    assert "19] ... (50 entries)" in output
    assert re.search(r"^ +a +b\n +1\n +2 +None$", output, re.M)
    assert "\x1b" not in output


def test_a_sample_without_colours(shards: Path, tiny_tokenizer: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert inspect(shards, "--sample", 0, "--tokenizer", tiny_tokenizer) == 0
    trained = int(ShardReader(shards).trained_tokens[0])
    masked = int(ShardReader(shards).lengths[0]) - trained
    assert capsys.readouterr().out == (
        f"sample 0 of 2: {masked + trained} tokens, of these trained {trained}\n"
        f"[masked, {masked} tokens]\n"
        "  <|im_start|>user\n  3 + 5?<|im_end|>\n  <|im_start|>assistant\n  \n"
        f"[trained, {trained} tokens]\n"
        "  <think>\n  8\n  </think>\n  \n  \\boxed{8}<|im_end|>\n"
    )


def test_a_sample_in_two_colours(shards: Path, tiny_tokenizer: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert inspect(shards, "--sample", 0, "--tokenizer", tiny_tokenizer, "--color") == 0
    output = capsys.readouterr().out
    assert "\x1b[36m3 + 5?<|im_end|>\x1b[0m\n" in output
    assert "\x1b[33m\\boxed{8}<|im_end|>\x1b[0m\n" in output
    assert "\x1b[36m\x1b[0m\x1b[33m<think>\x1b[0m\n" in output


def test_boundaries_and_ids(shards: Path, tiny_tokenizer: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = [shards, "--sample", 0, "--tokenizer", tiny_tokenizer]
    assert inspect(*options, "--tokens", "boundaries") == 0
    assert "<|im_end|>│" in capsys.readouterr().out
    assert inspect(*options, "--tokens", "ids") == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    sample = ShardReader(shards).sample(0)
    shown = [line.split()[:3] for line in lines]
    kinds = ["trained" if flag else "masked" for flag in sample.trained]
    assert shown == [
        [str(i), str(t), kind] for i, (t, kind) in enumerate(zip(sample.tokens.tolist(), kinds, strict=True))
    ]
    assert lines[-1].endswith("trained <|im_end|>")


@pytest.mark.parametrize("options", [[], ["--color"], ["--tokens", "boundaries"], ["--tokens", "ids"]])
def test_hostile_text_cannot_act_or_pass_for_a_marker(
    options: list[str], shards: Path, tiny_tokenizer: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert inspect(shards, "--sample", 1, "--tokenizer", tiny_tokenizer, *options) == 0
    output = capsys.readouterr().out
    # Colours of the program itself, nothing else that acts.
    plain = re.sub(r"\x1b\[(0|7|27|33|36)m", "", output) if options == ["--color"] else output
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", plain)
    assert "\\x1b" in output and "\\x07" in output
    if not options:
        markers = [line for line in output.splitlines() if line.startswith("[")]
        assert [re.sub(r"\d+", "n", line) for line in markers] == ["[masked, n tokens]", "[trained, n tokens]"]
        assert "  [masked, 3 tokens]" in output


def test_verify_names_the_damaged_file(shards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert inspect(shards, "--verify") == 0
    num_files = len(ShardReader(shards).manifest["files"])
    assert f"verified     {num_files} file(s), 0 damaged" in capsys.readouterr().out
    name = next(path.name for path in sorted(shards.glob("samples*.bin")))
    content = bytearray((shards / name).read_bytes())
    content[5] ^= 1
    (shards / name).write_bytes(content)
    (shards / "rejects.jsonl").unlink()
    assert inspect(shards, "--verify") == 1
    output = capsys.readouterr().out
    assert f"{name}: its sha256 is " in output
    assert "rejects.jsonl: cannot be read (No such file or directory)" in output
    assert f"{num_files} file(s), 2 damaged" in output
    (shards / name).write_bytes(content[:-4])
    assert inspect(shards, "--verify") == 1
    assert f"has {len(content) - 4} bytes, the manifest says {len(content)}" in capsys.readouterr().out


def test_equal_folders_compare_equal(
    shards: Path, tiny_tokenizer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "again").mkdir()
    other = build(tmp_path / "again" / "shards", tiny_tokenizer, [SUM, HOSTILE, {"prompt": "no response"}])
    capsys.readouterr()
    assert inspect(shards, "--compare", other) == 0
    assert capsys.readouterr().out.endswith("samples      equal, token for token\nverdict      equal\n")


def test_differences_are_named(
    shards: Path, tiny_tokenizer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = HOSTILE | {"response": HOSTILE["response"].replace("evil", "exil")}
    other = build(tmp_path / "other", tiny_tokenizer, [SUM, changed], seed=4)
    left, right = ShardReader(shards).sample(1).tokens.tolist(), ShardReader(other).sample(1).tokens.tolist()
    place = next(i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b)
    capsys.readouterr()
    assert inspect(shards, "--compare", other, "--tokenizer", tiny_tokenizer) == 1
    output = capsys.readouterr().out
    assert "configuration.seed\n  a: 0\n  b: 4\n" in output
    assert "counts.rows_read\n  a: 3\n  b: 2\n" in output
    assert "counts.rejected_by_reason.missing_field\n  a: 1\n  b: absent\n" in output
    assert re.search(r"^files\.samples[^ ]*\.bin\.sha256\n  a: [0-9a-f]{64}\n  b: [0-9a-f]{64}$", output, re.M)
    assert f"first difference: sample 1, token {place}\n  a: id {left[place]}, trained, " in output
    assert f"\n  b: id {right[place]}, trained, " in output
    assert output.endswith("verdict      different\n")


def test_a_folder_that_ends_sooner_differs_there(
    shards: Path, tiny_tokenizer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = build(tmp_path / "shorter", tiny_tokenizer, [SUM])
    capsys.readouterr()
    assert inspect(shards, "--compare", other) == 1
    output = capsys.readouterr().out
    assert "first difference: sample 1, token 0\n  a: id " in output
    assert "\n  b: has no sample 1\n" in output


def test_mistakes_exit_2(
    shards: Path, tiny_tokenizer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_tokenizer(tmp_path / "other-tokenizer", template="x{{ messages[0].content }}")
    for arguments, message in [
        ([tmp_path / "absent"], "no such folder"),
        ([tmp_path / "absent", "--verify"], "give a folder of tools/build_shards"),
        ([shards, "--sample", 0], "--sample needs --tokenizer"),
        ([shards, "--sample", 2, "--tokenizer", tiny_tokenizer], "the samples are 0 to 1"),
        ([shards, "--sample", 0, "--tokenizer", other], "give the tokenizer folder that the shards were built with"),
        ([shards, "--tokenizer", tiny_tokenizer], "no effect without --sample or --compare"),
        ([shards, "--tokens", "ids"], "no effect without --sample"),
        ([shards, "--color"], "no effect without --sample"),
    ]:
        assert inspect(*arguments) == 2
        assert message in " ".join(re.sub("[│╭╮╰╯─]", " ", capsys.readouterr().err).split())


def test_the_program_ends_quietly_when_nobody_reads_on(shards: Path) -> None:
    environment = os.environ | {"VIRTUAL_ENV": sys.prefix, "PYTHONIOENCODING": "ascii"}
    command = f"{REPOSITORY / 'tools' / 'inspect_shards'} {shards}"
    result = subprocess.run(f"{command} | head -1", shell=True, capture_output=True, text=True, env=environment)
    assert result.stdout.startswith("folder ") and result.stderr == ""
    result = subprocess.run(command.split(), capture_output=True, text=True, env=environment)
    assert result.returncode == 0 and "\\u2588" in result.stdout
