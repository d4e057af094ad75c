"""The sandbox: found once, then runs any number of programs, from any number of threads.

sandbox = find_sandbox()
outcome = sandbox.run({"main.py": b"print(1)"}, [sandbox.python, "main.py"], b"", Limits())
"""

import contextlib
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evals.sandbox.command import Programs, bwrap_command
from evals.sandbox.limits import MIB, Limits, Outcome
from evals.sandbox.running import Running
from evals.sandbox.system_calls import filter_program
from megatron_sft.errors import EnvironmentProblem

UNPRIVILEGED_ID = 65534
"""What root becomes before it starts a sandbox: the kernel exempts root's own uid from the limit of processes."""
SYSTEM_PYTHON = "/usr/bin/python3"


@dataclass(frozen=True, kw_only=True)
class Sandbox:
    """A sandbox that has been seen to work; `find_sandbox` makes it. Thread-safe."""

    programs: Programs
    python_version: str
    """Of the interpreter inside, such as `3.11.2`."""

    @property
    def python(self) -> str:
        """The interpreter, as a command inside."""
        return self.programs.python

    def run(self, files: Mapping[str, bytes], command: Sequence[str], stdin: bytes, limits: Limits) -> Outcome:
        """Run one program to its end or to a limit; when this returns, nothing of it runs any more.

        Args:
            files: names below the working folder -> contents. The program may change its copies.
            command: program and arguments; no shell is between.
            stdin: what the program reads from standard input.
            limits: see `Limits`.

        Raises:
            EnvironmentProblem: when bubblewrap could not start the program.
        """
        return self.start(files, command, stdin, limits).finish()

    def start(
        self,
        files: Mapping[str, bytes],
        command: Sequence[str],
        stdin: bytes,
        limits: Limits,
        channel: int | None = None,
    ) -> Running:
        """Start a program; the caller must call `Running.finish`, and stay alive in the thread that started it.

        Args:
            files: as in `run`.
            command: as in `run`; the word `{channel}` becomes the number of the channel's descriptor.
            stdin: as in `run`.
            limits: as in `run`.
            channel: a descriptor that the program inherits, such as one end of a socket pair.

        Raises:
            EnvironmentProblem: when bubblewrap is gone.
            ValueError: for files that do not fit into the working folder.
        """
        size = sum(map(len, files.values()))
        if size > limits.folder_bytes // 2:
            raise ValueError(f"files of {size} bytes leave no room in a folder of {limits.folder_bytes}")
        with contextlib.ExitStack() as stack:
            report, status = os.pipe()
            stack.callback(os.close, status)
            descriptors = {name: stack.enter_context(_in_memory(content)) for name, content in files.items()}
            program = filter_program()
            seccomp = -1 if program is None else stack.enter_context(_in_memory(program))
            passed = [status, *descriptors.values(), *(fd for fd in (seccomp, channel) if fd is not None and fd >= 0)]
            inside = [str(channel) if part == "{channel}" else part for part in command]
            line = bwrap_command(self.programs, inside, limits, descriptors, status=status, seccomp=seccomp)
            try:
                process = subprocess.Popen(
                    line,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    bufsize=0,
                    pass_fds=passed,
                    close_fds=True,
                    cwd="/",
                    env={},
                    user=_uid(),
                    group=_uid(),
                    extra_groups=_groups(),
                )
            except OSError as error:
                os.close(report)
                raise EnvironmentProblem(f"{line[0]}: cannot be started: {error}") from None
        return Running(process=process, status=report, stdin=stdin, limits=limits)


def find_sandbox(python: Path | None = None) -> Sandbox:
    """Find bubblewrap and prove that it runs a program and holds its limits here.

    Args:
        python: the interpreter for programs; its packages can be imported inside. Default: /usr/bin/python3.

    Raises:
        EnvironmentProblem: when a program is missing, user namespaces are forbidden or a limit does not hold.
    """
    bwrap = _which("bwrap", "bubblewrap")
    prlimit = _which("prlimit", "util-linux")
    programs = Programs(bwrap=bwrap, prlimit=prlimit, python=SYSTEM_PYTHON, python_folders=())
    if python is None and not Path(SYSTEM_PYTHON).exists():
        raise EnvironmentProblem(
            f"the sandbox needs a Python interpreter: {SYSTEM_PYTHON} is missing; install the Debian package python3 "
            "or name another interpreter"
        )
    if python is not None:
        programs = Programs(
            bwrap=bwrap, prlimit=prlimit, python=str(python.absolute()), python_folders=_folders(python)
        )
    sandbox = Sandbox(programs=programs, python_version="unknown")
    return Sandbox(programs=programs, python_version=_probe(sandbox))


_PROBE = """
import json, os, platform, resource
number = 0
try:
    while number < 64:
        if os.fork() == 0:
            import time
            time.sleep(30)
            os._exit(0)
        number += 1
except OSError:
    pass
try:
    block = bytearray(1 << 30)
    memory = False
except MemoryError:
    memory = True
network = [name for name in os.listdir("/sys/class/net")] if os.path.isdir("/sys/class/net") else []
print(json.dumps({"version": platform.python_version(), "forks": number, "memory": memory, "network": network}))
"""


_PROBE_TOGETHER = """
import os, time
for _ in range(3):
    if os.fork() == 0:
        block = bytearray(b"x") * (150 << 20)
        time.sleep(60)
time.sleep(60)
"""


def _probe(sandbox: Sandbox) -> str:
    """Return the version of the interpreter inside, after trying what the limits promise."""
    limits = Limits(wall_s=30, cpu_s=10, memory_bytes=256 * MIB, num_processes=8)
    try:
        outcome = sandbox.run({"probe.py": _PROBE.encode()}, [sandbox.python, "probe.py"], b"", limits)
    except EnvironmentProblem as error:
        raise EnvironmentProblem(
            f"the sandbox for model-written code does not start: {error}. It needs unprivileged user namespaces (see "
            "docs/sandbox.md); code is never run without it"
        ) from None
    end = outcome.stderr[-500:].decode("utf-8", "replace").strip()
    if outcome.exit_status != 0:
        raise EnvironmentProblem(f"the sandbox's interpreter {sandbox.python} does not run inside: {end}")
    found = json.loads(outcome.stdout)
    if found["forks"] >= limits.num_processes or not found["memory"] or found["network"]:
        raise EnvironmentProblem(
            f"the sandbox does not hold its limits here: {found}; expected fewer than {limits.num_processes} forks, a "
            "refused allocation and no network. Kernel: " + platform.release()
        )
    if tuple(map(int, found["version"].split(".")[:2])) < (3, 10):
        raise EnvironmentProblem(f"{sandbox.python} is Python {found['version']}; the sandbox needs 3.10 or later")
    # Each process stays below the limit, all together pass it.
    together = sandbox.run({"probe.py": _PROBE_TOGETHER.encode()}, [sandbox.python, "probe.py"], b"", limits)
    if not together.memory_exceeded:
        raise EnvironmentProblem(
            "the sandbox cannot see the memory of its processes here: it needs a /proc with task/*/children "
            f"(CONFIG_PROC_CHILDREN) and processes visible to their own user. Kernel: {platform.release()}"
        )
    return str(found["version"])


def _which(program: str, package: str) -> str:
    path = shutil.which(program)
    if path is None:
        raise EnvironmentProblem(
            f"the sandbox for model-written code needs the program {program}: install the Debian package {package} "
            f"(apt-get install {package}); code is never run without it"
        )
    return os.path.realpath(path)


_PREFIXES = "import json, sys; print(json.dumps([sys.prefix, sys.base_prefix, sys.executable]))"


def _folders(python: Path) -> tuple[str, ...]:
    """Return the interpreter's own folders outside /usr.

    Raises:
        EnvironmentProblem: when it does not run or the sandbox's user cannot read it.
    """
    try:
        found = subprocess.run(
            [str(python), "-I", "-c", _PREFIXES],
            capture_output=True,
            text=True,
            check=True,
            user=_uid(),
            group=_uid(),
            extra_groups=_groups(),
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise EnvironmentProblem(
            f"{python}: does not run as uid {os.geteuid() or UNPRIVILEGED_ID}, as which programs run in the sandbox "
            f"({error}); choose an interpreter that every user can read"
        ) from None
    prefix, base_prefix, _ = json.loads(found.stdout)
    folders = [os.path.realpath(prefix), os.path.realpath(base_prefix), prefix, base_prefix]
    return tuple(sorted({folder for folder in folders if not f"{folder}/".startswith("/usr/")}))


def _uid() -> int | None:
    """Return what to become before bubblewrap is called; None to stay what we are."""
    return UNPRIVILEGED_ID if os.geteuid() == 0 else None


def _groups() -> list[str | int] | None:
    return [] if os.geteuid() == 0 else None


@contextlib.contextmanager
def _in_memory(content: bytes) -> Iterator[int]:
    """Yield a descriptor from which the content can be read once, without a file system."""
    descriptor = os.memfd_create("sandbox")
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(content)
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)
