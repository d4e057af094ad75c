"""Runs every check of the project: linters, type checks, Rust tests, Python tests, and the trainer's tests on the other
supported Megatron-Core where its interpreter is found. A failing step does not stop the others.
"""

import os
import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from megatron_sft import cli
from megatron_sft.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
# Python 3.11 gets megatron-core 0.16.1, its newest; 3.12 and newer get 0.19: one interpreter of each kind covers both.
OLD_CORE_PYTHONS = ("3.11",)
NEW_CORE_PYTHONS = ("3.12", "3.13")
TRAINER_EXTRAS = "train,dev"


@dataclass(frozen=True, kw_only=True)
class Counts:
    """How many tests ended how."""

    passed: int = 0
    """Tests that passed."""
    failed: int = 0
    """Tests that failed or could not run."""
    skipped: int = 0
    """Tests that were left out, with a reason in the log."""

    def __add__(self, other: "Counts") -> "Counts":
        """Sum of both."""
        return Counts(
            passed=self.passed + other.passed,
            failed=self.failed + other.failed,
            skipped=self.skipped + other.skipped,
        )


@dataclass(frozen=True, kw_only=True)
class Step:
    """One check."""

    name: str
    """Shown in the summary, and taken by --only."""
    command: Sequence[str]
    """What runs in the repository root."""
    count: Callable[[str, int], Counts]
    """Counts from the step's output and exit status."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """How a step ended."""

    name: str
    """The step's name."""
    counts: Counts
    """Tests by outcome; a linter counts as one."""
    seconds: float
    """Wall-clock time."""


@dataclass(frozen=True, kw_only=True)
class RunTestsConfig:
    """Run every check of the project, or some of them by name; prints a summary and the closing line."""

    only: tuple[str, ...] = ()
    """Names of the steps to run, as the summary shows them (default: all)."""
    results: Path = ROOT / "build" / "test-results"
    """Folder for pytest's result files."""


def run_tests(config: RunTestsConfig) -> None:
    """Run the steps and print the summary.

    Raises:
        ConfigError: for an unknown step.
        SystemExit: with status 1 when anything failed or nothing ran.
    """
    config.results.mkdir(parents=True, exist_ok=True)
    steps = [*lint_steps(), *rust_steps(), pytest_step("pytest", sys.executable, config.results)]
    other = other_core_step(config.results)
    names = [step.name for step in (*steps, other)]
    unknown = [name for name in config.only if name not in names]
    if unknown:
        raise ConfigError(f"--only {' '.join(unknown)}: the steps are {', '.join(names)}")
    results = [run_step(step) for step in (*steps, other) if not config.only or step.name in config.only]
    total = summarize(results)
    if total.failed or not total.passed:
        raise SystemExit(1)


def lint_steps() -> list[Step]:
    """Checks of form and types; each counts as one test."""
    python = sys.executable
    return [
        Step(name="ruff", command=[python, "-m", "ruff", "check", "."], count=count_status),
        Step(name="ruff-format", command=[python, "-m", "ruff", "format", "--check", "."], count=count_status),
        Step(name="mypy", command=[python, "-m", "mypy"], count=count_status),
        Step(name="stubtest", command=[python, "-m", "mypy.stubtest", "megatron_sft._native"], count=count_status),
        Step(name="rustfmt", command=["cargo", "fmt", "--all", "--check"], count=count_status),
    ]


def rust_steps() -> list[Step]:
    """Clippy and the Rust tests."""
    clippy = ["cargo", "clippy", "--release", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]
    return [
        Step(name="clippy", command=clippy, count=count_status),
        Step(name="cargo-test", command=["cargo", "test", "--release", "--workspace", "--locked"], count=count_cargo),
    ]


def pytest_step(name: str, python: str, results: Path, *selection: str) -> Step:
    """A pytest run whose counts come from its result file."""
    report = results / f"{name}.xml"
    report.unlink(missing_ok=True)
    command = [python, "-m", "pytest", f"--junitxml={report}", "--durations=10", *colour_option(), *selection]
    return Step(name=name, command=command, count=lambda _, status: count_junit(report, status))


def colour_option() -> list[str]:
    """No colours in a log that nobody sees on a terminal."""
    return ["--color=no"] if os.environ.get("CI") else []


def other_core_step(results: Path) -> Step:
    """The trainer's tests on the Megatron-Core that this interpreter does not get, in an environment of its own."""
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    wanted = NEW_CORE_PYTHONS if here in OLD_CORE_PYTHONS else OLD_CORE_PYTHONS
    name = "pytest-trainer-py" + wanted[0].replace(".", "")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHON"}
    search = subprocess.run([ROOT / "tools" / "find_python", *wanted], capture_output=True, text=True, env=environment)
    if search.returncode != 0:
        message = f"skipped: no Python {' or '.join(wanted)} was found, so the other megatron-core is not tested"
        return Step(name=name, command=["echo", message], count=lambda _, status: Counts(skipped=1))
    venv = ROOT / f".venv-py{wanted[0].replace('.', '')}"
    step = pytest_step(name, str(venv / "bin" / "python"), results, "-m", "trainer", *files_with_trainer_tests())
    setup = [str(ROOT / "tools" / "setup_env"), "--venv", str(venv), "--python", search.stdout.strip()]
    setup += ["--extras", TRAINER_EXTRAS]
    script = '"$1" "$2" "$3" "$4" "$5" "$6" "$7" && shift 7 && exec "$@"'
    return Step(name=name, command=["sh", "-c", script, "sh", *setup, *step.command], count=step.count)


def files_with_trainer_tests() -> list[str]:
    """Test files with the marker: the others import packages which that environment does not have."""
    tests = sorted((ROOT / "tests").rglob("test_*.py"))
    marked = [path for path in tests if "mark.trainer" in path.read_text(encoding="utf-8")]
    return [str(path.relative_to(ROOT)) for path in marked]


def run_step(step: Step) -> Result:
    """Run one step, showing its output as it comes."""
    print(f"\n=== {step.name}: {' '.join(step.command).replace(f'{ROOT}{os.sep}', '')}", flush=True)
    started = time.monotonic()
    output, status = run_and_show(step.command)
    return Result(name=step.name, counts=step.count(output, status), seconds=time.monotonic() - started)


def run_and_show(command: Sequence[str]) -> tuple[str, int]:
    """Run a command in the repository root; returns what it printed and its exit status."""
    environment = os.environ | {"PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1"}
    if os.environ.get("CI"):
        environment |= {"NO_COLOR": "1", "CARGO_TERM_COLOR": "never"}
    lines = []
    try:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
    except OSError as error:
        print(f"cannot start {command[0]}: {error}", flush=True)
        return "", 127
    assert process.stdout is not None, "a pipe was asked for"
    for line in process.stdout:
        print(line, end="", flush=True)
        lines.append(line)
    return "".join(lines), process.wait()


def count_status(_output: str, status: int) -> Counts:
    """One test, passed when the status is 0."""
    return Counts(passed=1) if status == 0 else Counts(failed=1)


def count_cargo(output: str, status: int) -> Counts:
    """Sum the result lines of every test binary; a failure without one (a compile error, say) counts as one."""
    counts = Counts()
    for passed, failed, ignored in re.findall(
        r"^test result: .*?(\d+) passed; (\d+) failed; (\d+) ignored", output, re.M
    ):
        counts += Counts(passed=int(passed), failed=int(failed), skipped=int(ignored))
    return counts + Counts(failed=1) if status != 0 and counts.failed == 0 else counts


def count_junit(report: Path, status: int) -> Counts:
    """Read pytest's result file; a failure that it does not show (a crash, no tests at all) counts as one."""
    counts = Counts()
    if report.exists():
        for suite in ElementTree.parse(report).getroot().iter("testsuite"):
            number = {key: int(suite.get(key, "0")) for key in ("tests", "failures", "errors", "skipped")}
            failed = number["failures"] + number["errors"]
            passed = number["tests"] - failed - number["skipped"]
            counts += Counts(passed=passed, failed=failed, skipped=number["skipped"])
    return counts + Counts(failed=1) if status != 0 and counts.failed == 0 else counts


def summarize(results: Sequence[Result]) -> Counts:
    """Print the table and, as the very last line, the sum."""
    total = sum((result.counts for result in results), Counts())
    print(f"\n{'step':<22} {'passed':>7} {'failed':>7} {'skipped':>8} {'seconds':>8}")
    for result in results:
        counts = result.counts
        marker = "  <- failed" if counts.failed else ""
        row = f"{result.name:<22} {counts.passed:>7} {counts.failed:>7} {counts.skipped:>8} {result.seconds:>8.1f}"
        print(row + marker)
    print(f"{'all':<22} {'':>7} {'':>7} {'':>8} {sum(result.seconds for result in results):>8.1f}")
    print(f"total: {total.passed} passed, {total.failed} failed, {total.skipped} skipped", flush=True)
    return total


def main() -> int:
    """Entry point of tools/run_tests."""
    return cli.run(RunTestsConfig, run_tests, prog="run_tests")


if __name__ == "__main__":
    sys.exit(main())
