"""A sandbox in the hands of root and of an ordinary user."""

import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from evals.graders.code_judge import Finding, Judge
from evals.sandbox.limits import Limits, Outcome
from evals.sandbox.run import Sandbox, find_sandbox

REPOSITORY = Path(__file__).resolve().parents[3]
ORDINARY_ID = 4242

# Serves requests, one a line, as whoever it was started by. Needs the standard library only.
DRIVER = """
import base64, json, sys
from dataclasses import asdict
from evals.graders.code_judge import Judge
from evals.sandbox.limits import Limits
from evals.sandbox.run import find_sandbox

sandbox = find_sandbox()
for line in sys.stdin:
    request = json.loads(line)
    limits = Limits(**request["limits"])
    if "source" in request:
        judge = Judge(sandbox=sandbox, time_limit_s=limits.cpu_s, limits=limits, clock_factor=2)
        reply = asdict(judge.judge_stdin(request["source"], request["tests"]))
    else:
        files = {name: base64.b64decode(content) for name, content in request["files"].items()}
        reply = asdict(sandbox.run(files, request["command"], base64.b64decode(request["stdin"]), limits))
        for name in ("stdout", "stderr"):
            reply[name] = base64.b64encode(reply[name]).decode()
    print(json.dumps(reply), flush=True)
"""


def found_sandbox() -> Sandbox:
    """The sandbox; skips only where its program is not installed: one that is there and does not work is a failure."""
    if shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed (apt-get install bubblewrap)")
    return find_sandbox()


@pytest.fixture(scope="session")
def sandbox() -> Sandbox:
    """The sandbox in this process."""
    return found_sandbox()


class Direct:
    """Runs programs from this process, which is root's."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def run(self, code: str | bytes, *arguments: str, stdin: bytes = b"", **limits: Any) -> Outcome:
        """Run Python code with arguments."""
        content = code.encode() if isinstance(code, str) else code
        command = [self._sandbox.python, "main.py", *arguments]
        return self._sandbox.run({"main.py": content}, command, stdin, Limits(**limits))

    def python(self, *arguments: str) -> "subprocess.Popen[bytes]":
        """Start a Python process of this user outside the sandbox, which can import the sources."""
        environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
        return subprocess.Popen([sys.executable, *arguments], env=environment, stdout=subprocess.PIPE)

    def judge(self, source: str, tests: list[dict[str, str]], **limits: Any) -> Finding:
        """Judge a program that reads standard input."""
        chosen = Limits(**limits)
        return Judge(sandbox=self._sandbox, time_limit_s=chosen.cpu_s, limits=chosen, clock_factor=2).judge_stdin(
            source, tests
        )


class ByDriver:
    """Runs programs from a process of an ordinary user."""

    def __init__(self, folder: Path) -> None:
        """Start the process in a folder with the sources."""
        self._folder = folder
        self._process = self.python("driver.py", stdin=subprocess.PIPE, text=True)

    def python(self, *arguments: str, **options: Any) -> "subprocess.Popen[Any]":
        """As `Direct.python`."""
        is_root = os.geteuid() == 0
        return subprocess.Popen(
            # The ordinary user may not be able to read this interpreter, which can be root's too.
            ["/usr/bin/python3" if is_root else sys.executable, "-B", *arguments],
            cwd=self._folder,
            env={"PYTHONPATH": str(self._folder), "PATH": os.environ["PATH"], "SECRET_OF_THE_HOST": "hunter2"},
            stdout=subprocess.PIPE,
            user=ORDINARY_ID if is_root else None,
            group=ORDINARY_ID if is_root else None,
            extra_groups=[] if is_root else None,
            **options,
        )

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        assert self._process.wait(60) == 0
        self._process.stdout.close()

    def run(self, code: str | bytes, *arguments: str, stdin: bytes = b"", **limits: Any) -> Outcome:
        """As `Direct.run`."""
        content = code.encode() if isinstance(code, str) else code
        request = {
            "files": {"main.py": base64.b64encode(content).decode()},
            "command": ["/usr/bin/python3", "main.py", *arguments],
            "stdin": base64.b64encode(stdin).decode(),
            "limits": limits,
        }
        reply = self._ask(request)
        for name in ("stdout", "stderr"):
            reply[name] = base64.b64decode(reply[name])
        return Outcome(**reply)

    def judge(self, source: str, tests: list[dict[str, str]], **limits: Any) -> Finding:
        """As `Direct.judge`."""
        return Finding(**self._ask({"source": source, "tests": tests, "limits": limits}))

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the ordinary user's process ended"
        reply: dict[str, Any] = json.loads(line)
        return reply


@pytest.fixture(scope="session")
def ordinary() -> Iterator[ByDriver]:
    """A process of an ordinary user, who reads a copy of the sources since a checkout may be root's alone."""
    found_sandbox()
    folder = Path(tempfile.mkdtemp(prefix="sandbox-sources-"))
    folder.chmod(0o755)
    shutil.copytree(REPOSITORY / "evals", folder / "evals", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "megatron_sft").mkdir()
    for name in ("__init__.py", "errors.py"):
        shutil.copy(REPOSITORY / "megatron_sft" / name, folder / "megatron_sft" / name)
    (folder / "driver.py").write_text(DRIVER)
    driver = ByDriver(folder)
    yield driver
    driver.close()
    shutil.rmtree(folder)


@pytest.fixture(params=["root", "ordinary user"])
def box(request: pytest.FixtureRequest) -> Direct | ByDriver:
    """Each test runs as root and as an ordinary user."""
    if request.param == "root":
        if os.geteuid() != 0:
            pytest.skip("these tests are not run by root")
        return Direct(request.getfixturevalue("sandbox"))
    found: ByDriver = request.getfixturevalue("ordinary")
    return found


@pytest.fixture
def processes_of() -> Callable[[str], list[int]]:
    """A function that lists the processes whose command line holds a word."""

    def find(word: str) -> list[int]:
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                if word.encode() in path.read_bytes():
                    found.append(int(path.parent.name))
            except OSError:
                continue
        return found

    return find
