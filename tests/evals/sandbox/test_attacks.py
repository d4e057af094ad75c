"""Programs that try to get out, to see more than they should or to use more than they may: as root and as a user.

An attack prints `escaped` when it got what it was after. Whatever it does, it is over when `run` returns, nothing of it
is left, and the next program runs.
"""

import os
import secrets
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

MIB = 1 << 20
SMALL: dict[str, Any] = {"cpu_s": 1, "wall_s": 2.5, "memory_bytes": 256 * MIB, "num_processes": 16}

ATTACKS = {
    "fork bomb": """
import os
while True:
    try:
        os.fork()
    except OSError:
        pass
""",
    "thread bomb": """
import threading, time
while True:
    threading.Thread(target=time.sleep, args=(100,)).start()
""",
    "one big allocation": "x = bytearray(10 ** 10)\nprint('escaped')",
    "a growing list": "x = []\nwhile True:\n    x.append('x' * 10 ** 6 + str(len(x)))",
    "many processes with memory each": """
import os, time
for _ in range(8):
    if os.fork() == 0:
        block = bytearray(os.urandom(1 << 20)) * 150
        time.sleep(2)
        print("escaped")
time.sleep(3)
""",
    "memory of no process": """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
if libc.memfd_create(b"x", 0) >= 0 or libc.shmget(0, 1 << 20, 0o1600) >= 0:
    print("escaped")
""",
    "endless loop": "while True:\n    pass",
    "endless loop that ignores signals": """
import signal
for number in range(1, 65):
    try:
        signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError):
        pass
while True:
    pass
""",
    "sleep": "import time\nwhile True:\n    time.sleep(1000)",
    "endless output": "while True:\n    print('x' * 10 ** 6)",
    "endless errors": "import sys\nwhile True:\n    print('x' * 10 ** 6, file=sys.stderr)",
    "a disk full": """
written = 0
with open("large", "wb") as file:
    while True:
        written += file.write(bytes(1 << 20))
        file.flush()
        if written > 200 << 20:
            print("escaped")
            break
""",
    "a disk full of files": """
total = 0
for number in range(300):
    with open(f"part{number}", "wb") as file:
        total += file.write(bytes(1 << 20))
print("escaped" if total > 200 << 20 else "")
""",
    "shared memory full": """
total = 0
for number in range(300):
    with open(f"/dev/shm/part{number}", "wb") as file:
        total += file.write(bytes(1 << 20))
print("escaped")
""",
    "a million files": """
import os
for number in range(10 ** 6):
    os.close(os.open(f"f{number}", os.O_CREAT))
print("escaped")
""",
    "deep recursion": """
import sys
sys.setrecursionlimit(10 ** 9)
def f(n):
    return [f(n + 1)]
f(0)
""",
    "deep recursion in C": "x = []\nfor _ in range(10 ** 6):\n    x = [x]\nprint(repr(x))",
    "kill the parent": """
import os, signal
for victim in (os.getppid(), 1, -1, 0):
    for number in (signal.SIGTERM, signal.SIGSTOP, signal.SIGKILL):
        try:
            os.kill(victim, number)
        except OSError:
            pass
""",
    "kill everything": "import os\nos.kill(-1, 9)\nprint('alone')\nos.kill(os.getpid(), 9)",
    "daemon": """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for descriptor in range(3):
            os.close(descriptor)
        time.sleep(1000)
    os._exit(0)
print("done")
""",
    "daemons that outlive each other": """
import os, time
print("done", flush=True)
end = time.monotonic() + 100
while time.monotonic() < end:
    if os.fork():
        os._exit(0)
    time.sleep(0.01)
""",
    "a closed output": "import os\nos.close(1)\nos.close(2)\nimport time\ntime.sleep(1000)",
    "write everywhere": """
import os
for folder in ("/", "/usr", "/usr/bin", "/etc", "/dev", "/proc", "/sys", "/lib", "/bin", "/tmp", "/var/tmp", "/run"):
    try:
        open(os.path.join(folder, "written-by-the-sandbox"), "w").close()
        print("escaped", folder)
    except OSError:
        pass
for path in ("/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/usr/bin/python3", "/dev/mem"):
    try:
        open(path, "r+b").close()
        print("escaped", path)
    except OSError:
        pass
""",
    "more rights": """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWUSER, CLONE_NEWNS, MS_BIND, PTRACE_ATTACH = 0x10000000, 0x20000, 4096, 16
if libc.unshare(CLONE_NEWUSER) == 0 or libc.unshare(CLONE_NEWNS) == 0:
    print("escaped: namespace")
if libc.syscall(56, CLONE_NEWUSER | 17, 0, 0, 0, 0) >= 0:  # clone on x86-64
    print("escaped: clone")
if libc.mount(b"none", b"/box", b"tmpfs", 0, None) == 0 or libc.mount(b"/", b"/box", None, MS_BIND, None) == 0:
    print("escaped: mount")
if libc.ptrace(PTRACE_ATTACH, os.getppid(), 0, 0) == 0:
    print("escaped: ptrace")
for call in (os.setuid, os.setgid):
    try:
        call(0)
        print("escaped:", call)
    except OSError:
        pass
for line in open("/proc/self/status"):
    if line.startswith(("CapEff", "CapPrm", "CapBnd")) and int(line.split()[1], 16):
        print("escaped:", line)
    if line.startswith("NoNewPrivs") and line.split()[1] != "1":
        print("escaped:", line)
for name in ("/usr/bin/su", "/usr/bin/mount", "/usr/bin/newuidmap", "/usr/bin/sudo"):
    if os.path.exists(name) and os.system(name + " -c id </dev/null 2>&1 | grep -q uid=0") == 0:
        print("escaped:", name)
""",
    "higher limits": """
import resource
for name in ("RLIMIT_AS", "RLIMIT_NPROC", "RLIMIT_FSIZE", "RLIMIT_CPU", "RLIMIT_NOFILE"):
    number = getattr(resource, name)
    try:
        resource.setrlimit(number, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        print("escaped", name)
    except (OSError, ValueError):
        pass
""",
    "become the first process": """
import re, resource
# The shell above is the same user's. It must have the same limits, or it would be a way around them.
lines = open("/proc/1/limits").read()
for name, text in (("AS", "Max address space"), ("NPROC", "Max processes"), ("CPU", "Max cpu time")):
    hard = re.search(text + r"\\s+\\S+\\s+(\\S+)", lines)[1]
    if hard != str(resource.getrlimit(getattr(resource, "RLIMIT_" + name))[1]):
        print("escaped", name, hard)
""",
    "see others": """
import os
own = {os.getpid(), os.getppid(), 1}
others = [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) not in own]
print("escaped" if others else "", others)
print("escaped" if "SECRET_OF_THE_HOST" in os.environ else "")
for pid in own:
    try:
        print("escaped" if b"SECRET" in open(f"/proc/{pid}/environ", "rb").read() else "")
    except OSError:
        pass
if sorted(os.listdir("/proc/self/fd")) != ["0", "1", "2", "3"]:
    print("escaped", os.listdir("/proc/self/fd"))
""",
}


@pytest.mark.parametrize("name", list(ATTACKS))
def test_an_attack_is_contained(
    name: str, box: Any, processes_of: Callable[[str], list[int]], monkeypatch: Any
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_HOST", "hunter2")
    free = _free_memory()
    word = secrets.token_hex(8)
    began = time.monotonic()
    outcome = box.run(ATTACKS[name], word, **SMALL)
    assert time.monotonic() - began < 60
    assert b"escaped" not in outcome.stdout, outcome.stdout[-500:]
    assert len(outcome.stdout) + len(outcome.stderr) <= 16 * MIB
    assert processes_of(word) == []
    assert _free_memory() > free - 1024 * MIB
    # The next program runs, and the attack is a wrong answer like any other.
    assert box.run("print('fine')").stdout == b"fine\n"
    finding = box.judge(ATTACKS[name], [{"input": "", "output": "right"}], **SMALL)
    assert finding.reason not in ("", "bad_item")


def _free_memory() -> int:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))


def test_what_ends_an_attack_is_named(box: Any) -> None:
    def ended(name: str) -> set[str]:
        outcome = box.run(ATTACKS[name], **SMALL)
        kinds = ("timed_out", "output_exceeded", "memory_exceeded", "files_exceeded")
        return {kind for kind in kinds if getattr(outcome, kind)}

    assert ended("endless loop") == {"timed_out"}
    assert ended("sleep") == {"timed_out"}
    assert ended("fork bomb") == {"timed_out"}
    assert ended("endless output") == {"output_exceeded"}
    assert ended("endless errors") == {"output_exceeded"}
    assert ended("many processes with memory each") == {"memory_exceeded"}
    assert ended("a million files") == {"files_exceeded"}
    assert ended("one big allocation") == set()
    assert box.run(ATTACKS["one big allocation"], **SMALL).stderr.endswith(b"MemoryError\n")


def test_the_limit_of_processes_counts_each_sandbox_alone(box: Any) -> None:
    code = """
import os, time
number = 0
try:
    while True:
        if os.fork() == 0:
            time.sleep(3)
            os._exit(0)
        number += 1
except OSError:
    print(number)
"""
    counts: list[int] = []
    if hasattr(box, "_sandbox"):
        threads = [threading.Thread(target=lambda: counts.append(int(box.run(code, **SMALL).stdout))) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    else:
        counts = [int(box.run(code, **SMALL).stdout)]
    # The shell and the program itself count, and bubblewrap's helper may.
    assert all(12 <= count <= 15 for count in counts) and counts


def test_files_of_the_host_are_not_there(box: Any) -> None:
    secret = secrets.token_hex(8)
    paths = []
    for folder in {tempfile.gettempdir(), str(Path.home()), "/var/tmp", "/dev/shm"}:
        if os.access(folder, os.W_OK):
            paths.append(Path(folder, f"secret-{secret}"))
            paths[-1].write_text(secret)
            paths[-1].chmod(0o644)
    assert len(paths) >= 2
    code = """
import os, sys
for path in sys.argv[1:]:
    os.symlink(path, "link")
    for name in (path, "link", "/proc/1/root" + path, "/box/../" + path, "/proc/1/cwd" + path):
        try:
            print("escaped", open(name).read())
        except OSError:
            pass
    os.unlink("link")
for path in ("/etc/passwd", "/etc/shadow", "/etc/hostname", "/var", "/run", "/sys", "/tmp", "/home", "/opt", "/mnt"):
    if os.path.exists(path):
        print("escaped", path)
print(sorted(os.listdir("/")))
"""
    outcome = box.run(code, *map(str, paths))
    for path in paths:
        assert path.read_text() == secret
        path.unlink()
    assert outcome.exit_status == 0
    assert b"escaped" not in outcome.stdout
    assert set(eval(outcome.stdout)) <= {"bin", "box", "dev", "etc", "lib", "lib32", "lib64", "proc", "sbin", "usr"}


def test_there_is_no_network(box: Any) -> None:
    name = f"\0sandbox-{secrets.token_hex(8)}"
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket(socket.AF_UNIX) as local:
        local.bind(name)
        local.listen()
        port = listener.getsockname()[1]
        socket.create_connection(("127.0.0.1", port)).close()
        code = f"""
import socket
def attempt(what):
    try:
        what()
        print("escaped")
    except OSError as error:
        print(type(error).__name__)
def unix():
    socket.socket(socket.AF_UNIX).connect({name!r})
attempt(lambda: socket.create_connection(("127.0.0.1", {port}), 2))
attempt(lambda: socket.create_connection(("192.0.2.1", 80), 2))
attempt(lambda: socket.getaddrinfo("example.org", 80))
attempt(unix)
attempt(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))
print([name for _, name in socket.if_nameindex()])
"""
        outcome = box.run(code)
    lines = outcome.stdout.decode().splitlines()
    assert len(lines) == 6 and "escaped" not in lines
    assert lines[-1] == "['lo']"


def test_nothing_outside_changes(box: Any, tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("as it was")
    tmp_path.chmod(0o777)
    before = {folder: sorted(os.listdir(folder)) for folder in ("/", "/usr", "/usr/bin", "/usr/lib", "/etc")}
    code = """
import os, shutil, sys
for folder in (sys.argv[1], "/usr", "/etc", "/dev/shm", "/"):
    shutil.rmtree(folder, ignore_errors=True)
    try:
        os.makedirs(folder, exist_ok=True)
        open(folder + "/written", "w").write("x")
    except OSError:
        pass
"""
    box.run(code, str(tmp_path))
    assert {folder: sorted(os.listdir(folder)) for folder in before} == before
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


KILLED_PARENT = """
import sys
from evals.sandbox.limits import Limits
from evals.sandbox.run import find_sandbox
sandbox = find_sandbox()
code = b"import os, time\\nif os.fork() == 0: os.setsid()\\ntime.sleep(1000)"
print("ready", flush=True)
sandbox.run({"main.py": code}, [sandbox.python, "main.py", sys.argv[1]], b"", Limits(wall_s=1000))
"""


def test_nothing_survives_a_killed_evaluation(box: Any, processes_of: Callable[[str], list[int]]) -> None:
    word = secrets.token_hex(8)
    # The word is in the sandbox's command lines, and in the evaluation's own.
    process = box.python("-c", KILLED_PARENT, word)
    with process.stdout:
        assert process.stdout.readline() == b"ready\n"
        _wait_until(lambda: len(processes_of(word)) >= 4)
        process.kill()
        process.wait()
    _wait_until(lambda: processes_of(word) == [])


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
