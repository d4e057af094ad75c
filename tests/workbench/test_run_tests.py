"""Counting tests from what the runners print, and the closing line."""

import re
from pathlib import Path

import pytest

from megatron_sft import cli
from megatron_sft.workbench.run_tests import (
    Counts,
    Result,
    RunTestsConfig,
    Step,
    count_cargo,
    count_junit,
    count_status,
    files_with_trainer_tests,
    run_step,
    run_tests,
    summarize,
)

CARGO_OUTPUT = """\
running 3 tests
test verify::accepts ... ok
test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.02s
   Doc-tests core
test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.40s
"""


def test_cargo_results_are_summed_over_binaries() -> None:
    assert count_cargo(CARGO_OUTPUT, 0) == Counts(passed=15, skipped=1)
    failed = CARGO_OUTPUT.replace("ok. 12 passed; 0 failed", "FAILED. 10 passed; 2 failed")
    assert count_cargo(failed, 101) == Counts(passed=13, failed=2, skipped=1)


def test_failure_without_a_result_line_counts() -> None:
    assert count_cargo("error: could not compile", 101) == Counts(failed=1)
    assert count_status("", 1) == Counts(failed=1)
    assert count_status("anything", 0) == Counts(passed=1)


def test_junit_is_counted(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    assert count_junit(report, 4) == Counts(failed=1)
    report.write_text('<testsuites><testsuite tests="10" failures="1" errors="2" skipped="3"/></testsuites>')
    assert count_junit(report, 1) == Counts(passed=4, failed=3, skipped=3)
    report.write_text('<testsuites><testsuite tests="2" failures="0" errors="0" skipped="0"/></testsuites>')
    assert count_junit(report, 0) == Counts(passed=2)
    assert count_junit(report, 139) == Counts(passed=2, failed=1)  # died after its last test


def test_closing_line_is_the_last_and_plain(capsys: pytest.CaptureFixture[str]) -> None:
    results = [
        Result(name="a", counts=Counts(passed=200, skipped=3), seconds=1.5),
        Result(name="b", counts=Counts(passed=15, failed=1), seconds=0.5),
    ]
    assert summarize(results) == Counts(passed=215, failed=1, skipped=3)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "total: 215 passed, 1 failed, 3 skipped"
    assert re.fullmatch(r"b +15 +1 +0 +0\.5  <- failed", lines[-3])


def test_steps_show_their_output_and_cannot_escape_counting(capfd: pytest.CaptureFixture[str]) -> None:
    shown = run_step(Step(name="x", command=["sh", "-c", "echo out; echo err >&2; exit 3"], count=count_status))
    assert shown.counts == Counts(failed=1)
    output = capfd.readouterr().out
    assert "out\n" in output
    assert "err\n" in output
    absent = run_step(Step(name="y", command=["no-such-program"], count=count_status))
    assert absent.counts == Counts(failed=1)


def test_chosen_steps_decide_the_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    good = Step(name="good", command=["true"], count=count_status)
    bad = Step(name="bad", command=["false"], count=count_status)
    nothing = Step(name="nothing", command=["true"], count=count_cargo)
    monkeypatch.setattr("megatron_sft.workbench.run_tests.lint_steps", lambda: [good, bad, nothing])
    run_tests(RunTestsConfig(only=("good",), results=tmp_path))
    assert capfd.readouterr().out.endswith("total: 1 passed, 0 failed, 0 skipped\n")
    with pytest.raises(SystemExit, match="1"):
        run_tests(RunTestsConfig(only=("good", "bad"), results=tmp_path))
    assert capfd.readouterr().out.endswith("total: 1 passed, 1 failed, 0 skipped\n")
    with pytest.raises(SystemExit, match="1"):  # nothing ran
        run_tests(RunTestsConfig(only=("nothing",), results=tmp_path))


def test_unknown_step_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(RunTestsConfig, run_tests, prog="run_tests", argv=["--only", "x", "--results", str(tmp_path)]) == 2
    assert "--only x: the steps are ruff, ruff-format, mypy" in capsys.readouterr().err


def test_trainer_tests_are_found_by_their_marker() -> None:
    files = files_with_trainer_tests()
    assert any(name.startswith(("tests/train/", "tests/model/")) for name in files)
    assert "tests/report/test_page.py" not in files
