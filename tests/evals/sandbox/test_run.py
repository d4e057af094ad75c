"""The sandbox's interface: what goes in, what comes out, and when there is none."""

import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from evals.sandbox.command import checked_name
from evals.sandbox.limits import Limits
from evals.sandbox.run import Sandbox, find_sandbox
from megatron_sft.errors import EnvironmentProblem


def test_files_arguments_and_output(sandbox: Sandbox) -> None:
    files = {"main.py": b"import sys; print(sys.argv[1:], open('data/a b.txt').read())", "data/a b.txt": "é".encode()}
    outcome = sandbox.run(files, [sandbox.python, "main.py", "x; echo y", "$HOME"], b"", Limits())
    assert (outcome.exit_status, outcome.signal) == (0, None)
    assert outcome.stdout.decode() == "['x; echo y', '$HOME'] é\n"
    assert outcome.stderr == b""
    assert 0 < outcome.cpu_s < 5 and 0 < outcome.wall_s < 30


def test_binary_input_and_output(box) -> None:
    data = bytes(range(256)) * 4 * 10240
    outcome = box.run("import sys; sys.stdout.buffer.write(sys.stdin.buffer.read()[::-1])", stdin=data)
    assert outcome.stdout == data[::-1]
    # Input that nobody reads is no error.
    assert box.run("print(1)", stdin=data).stdout == b"1\n"
    assert box.run("import sys; print(repr(sys.stdin.read()))").stdout == b"''\n"


def test_how_a_program_ended(box) -> None:
    assert box.run("import sys; sys.exit(7)").exit_status == 7
    outcome = box.run("import os; os.kill(os.getpid(), 11)")
    assert (outcome.exit_status, outcome.signal) == (None, 11)
    outcome = box.run("while True: pass", cpu_s=1)
    assert (outcome.exit_status, outcome.timed_out) == (None, True)
    # The kernel counts ticks for the limit, and exactly for the report.
    assert 0.5 < outcome.cpu_s < 2
    outcome = box.run("import time; print('so far', flush=True); time.sleep(99)", wall_s=1.0)
    assert (outcome.stdout, outcome.timed_out, outcome.exit_status) == (b"so far\n", True, None)
    assert 1 <= outcome.wall_s < 10


def test_output_is_kept_up_to_the_limit(box) -> None:
    outcome = box.run("import sys\nsys.stdout.write('x' * 1000)", output_bytes=1000)
    assert (len(outcome.stdout), outcome.output_exceeded) == (1000, False)
    outcome = box.run("import sys\nsys.stdout.write('x' * 1001)", output_bytes=1000)
    assert (len(outcome.stdout), outcome.output_exceeded) == (1000, True)


def test_sets_have_one_order(box) -> None:
    code = "print(list({'a', 'b', 'c', 'd', 'e'}))"
    assert len({box.run(code).stdout for _ in range(4)}) == 1


def test_the_folder_is_writable_and_multiprocessing_works(box) -> None:
    code = """
import multiprocessing, os
def square(x): return x * x
open("sub.txt", "w").write("x")
with multiprocessing.get_context("fork").Pool(2) as pool:
    print(pool.map(square, [1, 2, 3]), os.getcwd(), os.getuid())
"""
    assert box.run(code).stdout == b"[1, 4, 9] /box 1000\n"


def test_threads_run_side_by_side(sandbox: Sandbox) -> None:
    found: list[bytes] = []

    def work(number: int) -> None:
        code = f"import time; time.sleep(0.5); print({number})".encode()
        found.append(sandbox.run({"main.py": code}, [sandbox.python, "main.py"], b"", Limits()).stdout)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [f"{number}\n".encode() for number in range(8)]


def test_a_run_can_be_ended_from_another_thread(sandbox: Sandbox) -> None:
    running = sandbox.start({}, [sandbox.python, "-c", "import time; time.sleep(99)"], b"", Limits())
    threading.Timer(0.3, running.kill).start()
    began = time.monotonic()
    outcome = running.finish()
    assert time.monotonic() - began < 20
    assert (outcome.exit_status, outcome.timed_out) == (None, False)


def test_no_descriptor_is_left_open(sandbox: Sandbox) -> None:
    def run() -> None:
        sandbox.run({"a": b"1"}, [sandbox.python, "-c", "print(1)"], b"x" * 10**6, Limits())

    run()
    before = sorted(os.listdir("/proc/self/fd"))
    for _ in range(3):
        run()
    assert sorted(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("name", ["/etc/passwd", "../a", "a/../../b", "", ".", "..", "a//b", "a\0b", "./a"])
def test_file_names_stay_in_the_folder(name: str, sandbox: Sandbox) -> None:
    if name != ".":
        with pytest.raises(ValueError, match="plain name"):
            checked_name(name)
        with pytest.raises(ValueError, match="plain name"):
            sandbox.run({name: b""}, ["/bin/true"], b"", Limits())


def test_limits_and_files_that_cannot_work_are_refused(sandbox: Sandbox) -> None:
    for changes in ({"wall_s": 0}, {"num_processes": 1}, {"memory_bytes": 1}, {"num_files": -1}):
        with pytest.raises(ValueError, match="sandbox"):
            replace(Limits(), **changes)
    with pytest.raises(ValueError, match="no room"):
        sandbox.run({"a": bytes(1000)}, ["/bin/true"], b"", Limits(folder_bytes=1000))


def test_a_missing_or_failing_bubblewrap_is_no_verdict(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = replace(sandbox, programs=replace(sandbox.programs, bwrap="/nowhere/bwrap"))
    with pytest.raises(EnvironmentProblem, match="cannot be started"):
        gone.run({}, ["/bin/true"], b"", Limits())
    broken = replace(sandbox, programs=replace(sandbox.programs, python_folders=("/nowhere/python",)))
    with pytest.raises(EnvironmentProblem, match="without running the program"):
        broken.run({}, ["/bin/true"], b"", Limits())
    # One that starts programs without a sandbox does not pass for one.
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o755)
    for text, message in (
        ("#!/bin/sh\necho 'No permissions to create new namespace' >&2\nexit 1\n", "No permissions"),
        ('#!/bin/sh\nwhile [ "$1" != -- ]; do shift; done\nshift\nexec "$@"\n', "does not start|does not run"),
    ):
        (folder / "bwrap").write_text(text)
        (folder / "bwrap").chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
        with pytest.raises(EnvironmentProblem, match=message):
            find_sandbox()
    shutil.rmtree(folder)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EnvironmentProblem, match="apt-get install bubblewrap"):
        find_sandbox()


@pytest.fixture
def environment() -> Iterator[Path]:
    """A virtual environment that every user can read, with a package of its own."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o755)
    made = subprocess.run(
        ["/usr/bin/python3", "-m", "venv", "--without-pip", "--symlinks", folder / "venv"], check=False
    )
    if made.returncode:
        pytest.skip("the system's Python has no venv")
    site = next((folder / "venv" / "lib").glob("python*/site-packages"))
    (site / "of_the_environment.py").write_text("value = 5\n")
    yield folder
    shutil.rmtree(folder)


def test_another_interpreter_brings_its_packages(environment: Path, sandbox: Sandbox) -> None:
    other = find_sandbox(environment / "venv" / "bin" / "python3")
    code = b"import of_the_environment; print(of_the_environment.value)"
    outcome = other.run({"main.py": code}, [other.python, "main.py"], b"", Limits())
    assert outcome.stdout == b"5\n", outcome.stderr
    assert sandbox.run({"main.py": code}, [sandbox.python, "main.py"], b"", Limits()).exit_status == 1


def test_an_interpreter_that_the_sandbox_cannot_read_is_refused(environment: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="does not run"):
        find_sandbox(environment / "nowhere" / "python3")
    if os.geteuid() == 0:
        (environment / "venv").chmod(0o700)
        with pytest.raises(EnvironmentProblem, match="every user can read"):
            find_sandbox(environment / "venv" / "bin" / "python3")


def test_the_version_is_the_interpreters(sandbox: Sandbox) -> None:
    shown = subprocess.run([sandbox.python, "--version"], capture_output=True, text=True, check=True)
    assert shown.stdout.split()[1] == sandbox.python_version
    assert platform.system() == "Linux" and sys.version_info >= (3, 11)
