"""The command line of tools/study_report."""

from pathlib import Path

import pytest

from megatron_sft import cli
from megatron_sft.studies.report.__main__ import StudyReportConfig, study_report
from tests.studies.finding.run_folders import STUDY
from tests.studies.finding.test_find import write_small_run


def run(*arguments: object) -> int:
    return cli.run(StudyReportConfig, study_report, prog="study_report", argv=[str(argument) for argument in arguments])


def test_published_numbers_make_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("paper", "--published", "--output", tmp_path / "a" / "b") == 0
    out = tmp_path / "a" / "b"
    assert (out / "index.html").is_file()
    assert (out / "findings.json").is_file()
    assert list((out / "csv").glob("*.csv"))
    assert list((out / "tensorboard").rglob("events.out.tfevents*"))
    assert "study_report: claim 11: mixed: gains are ordered" in capsys.readouterr().out


def test_a_run_makes_a_report(tmp_path: Path) -> None:
    write_small_run(tmp_path)
    (tmp_path / "small.yaml").write_text(STUDY, encoding="utf-8")
    assert run(tmp_path / "small.yaml", "--run", tmp_path / "run", "--output", tmp_path / "report") == 0
    text = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert "Verdict of each curve (measured)" in text
    # One benchmark in the group: its average says the same.
    assert "in-domain average over steps" not in text
    assert text.count('<h3 id="comparison-') == 2
    names = {path.name for path in (tmp_path / "report" / "figures").glob("*.svg")}
    assert {"curves-01-data.svg", "differences-01-data.svg", "differences-02-models.svg"} <= names


@pytest.mark.parametrize("options", [[], ["--published", "--run", "x"]])
def test_one_source_is_needed(options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        run("paper", "--output", tmp_path, *options)
    assert "--run DIR" in capsys.readouterr().err


def test_unknown_studies_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("papr", "--published", "--output", tmp_path / "out") == 2
    assert "no study papr" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
