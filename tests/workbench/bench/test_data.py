"""`tools/bench data` end to end on a tiny corpus, and the subcommands of `tools/bench`."""

import importlib.util
import json
from pathlib import Path

import pytest

from megatron_sft.workbench.bench.__main__ import SUBCOMMANDS, main


def test_data_measures_every_candidate(
    tiny_tokenizer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {
        "--tokenizer": tiny_tokenizer, "--megabytes": 0.3, "--slice-megabytes": 0.1, "--repeat": 1, "--workers": 1,
        "--batches": 4, "--work": tmp_path, "--results": tmp_path / "results.json",
    }  # fmt: skip
    # Not `megatron`, which imports torch where that is installed: its own test runs it.
    peers = ["--peers", "script", "fastokens", "tokenizers"]
    assert main(["data", *(str(part) for pair in options.items() for part in pair), *peers]) == 0
    output = capsys.readouterr().out
    names = ["build_shards", "build_shards, no verification", "tokenizers (tokenization alone)"]
    if importlib.util.find_spec("fastokens") is None or importlib.util.find_spec("orjson") is None:
        assert "left out     script: " in output
    else:
        names[2:2] = ["script", "fastokens (tokenization alone)"]
        assert "build_shards without verification and script: the same" in output
    rows = json.loads((tmp_path / "results.json").read_text())["rows"]
    assert [row["name"] for row in rows] == names
    assert all(row["cpu_s"] > 0 and row["wall_s"] > 0 and row["tokens"] > 10_000 for row in rows)
    # The verified build leaves out the wrong answers; the slice is smaller than the corpus.
    assert rows[0]["tokens"] <= rows[1]["tokens"]
    assert rows[-1]["megabytes"] < rows[0]["megabytes"] == rows[1]["megabytes"]
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


def test_limits_prints_every_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["limits", "--megabytes", "0.2", "--repeat", "1", "--work", str(tmp_path)]) == 0
    output = capsys.readouterr().out
    for step in ("copy memory", "scan for line ends", "parse JSON lines, Python's json", "sha256", "synced"):
        assert step in output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no subcommand"),
        (["speed"], "unknown subcommand 'speed'"),
        (["data", "--tokenizer", "absent"], "no tokenizer.json"),
        (["data", "--tokenizer", "absent", "--repeat", "0"], "both need at least 1"),
        (["limits", "--repeat", "0"], "must be above 0"),
    ],
)
def test_mistakes_exit_2(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status: object = main(arguments)
    except SystemExit as error:
        status = error.code
    assert status == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_help_names_the_subcommands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    output = capsys.readouterr().out
    speeds = {"data", "limits", "loader", "packing", "convert", "verification", "train", "train-profile"}
    assert set(SUBCOMMANDS) == speeds | {"study", "published"}
    assert all(name in output for name in SUBCOMMANDS)
