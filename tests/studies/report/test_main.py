"""The command line of tools/study_report."""

from pathlib import Path

import pytest

from megatron_sft import cli
from megatron_sft.studies.report.__main__ import StudyReportConfig, study_report


def run(*arguments: object) -> int:
    return cli.run(StudyReportConfig, study_report, prog="study_report", argv=[str(argument) for argument in arguments])


def test_published_numbers_make_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("paper", "--published", "--output", tmp_path / "a" / "b") == 0
    out = tmp_path / "a" / "b"
    assert (out / "index.html").is_file()
    assert list((out / "csv").glob("*.csv"))
    assert list((out / "tensorboard").rglob("events.out.tfevents*"))
    assert "study_report: claim 11: mixed: gains are ordered" in capsys.readouterr().out


@pytest.mark.parametrize("options", [[], ["--published", "--run", "x"]])
def test_one_source_is_needed(options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        run("paper", "--output", tmp_path, *options)
    assert "--run DIR" in capsys.readouterr().err


def test_unknown_studies_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("papr", "--published", "--output", tmp_path / "out") == 2
    assert "no study papr" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
