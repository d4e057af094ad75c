"""One running sandbox: feeds and reads its pipes, watches its limits, and ends it with everything in it."""

import contextlib
import json
import os
import selectors
import signal
import subprocess
import time
from dataclasses import dataclass, field

from evals.sandbox.limits import Limits, Outcome
from evals.sandbox.watch import memory_of_tree, num_files_in_folder
from megatron_sft.errors import EnvironmentProblem

WATCH_INTERVAL_S = 0.02
_CHUNK = 1 << 16


@dataclass(kw_only=True)
class Running:
    """A started sandbox. `finish` must be called, by one thread; `kill` may be called by any."""

    process: "subprocess.Popen[bytes]"
    """bubblewrap's outer process, which outlives the sandbox and reports about it."""
    status: int
    """The descriptor of those reports; closed by `finish`."""
    stdin: bytes
    limits: Limits
    began: float = field(default_factory=time.monotonic)
    _first: int | None = None
    """The sandbox's process 1, as the host numbers it: everything inside dies with it."""
    _first_handle: int = -1
    _killed: bool = False
    _why: str = ""
    _reports: bytes = b""
    _output: dict[str, bytearray] = field(default_factory=lambda: {"stdout": bytearray(), "stderr": bytearray()})

    def kill(self) -> None:
        """End everything inside; `finish` then returns."""
        self._killed = True

    def finish(self) -> Outcome:
        """Wait for the end, or bring it about at a limit.

        Raises:
            EnvironmentProblem: when bubblewrap could not start the program.
        """
        exited = os.pidfd_open(self.process.pid)
        with selectors.DefaultSelector() as selector:
            try:
                self._register(selector, exited)
                self._loop(selector)
            finally:
                self._end()
                _, status, usage = os.wait4(self.process.pid, 0)
                self.process.returncode = os.waitstatus_to_exitcode(status)
                self._drain(selector)
                self._close(exited)
        return self._outcome(usage.ru_utime + usage.ru_stime)

    def _register(self, selector: selectors.BaseSelector, exited: int) -> None:
        assert self.process.stdin and self.process.stdout and self.process.stderr
        selector.register(exited, selectors.EVENT_READ, "exited")
        for name, file in (("stdout", self.process.stdout), ("stderr", self.process.stderr)):
            os.set_blocking(file.fileno(), False)
            selector.register(file, selectors.EVENT_READ, name)
        os.set_blocking(self.status, False)
        selector.register(self.status, selectors.EVENT_READ, "status")
        if self.stdin:
            os.set_blocking(self.process.stdin.fileno(), False)
            selector.register(self.process.stdin, selectors.EVENT_WRITE, "stdin")
        else:
            self.process.stdin.close()

    def _loop(self, selector: selectors.BaseSelector) -> None:
        fed = 0
        watched = time.monotonic()
        while not self._why:
            for key, _ in selector.select(WATCH_INTERVAL_S):
                if key.data == "exited":
                    return
                if key.data == "stdin":
                    fed = self._feed(selector, fed)
                else:
                    self._read(selector, key.fd, key.data)
            now = time.monotonic()
            if self._killed:
                self._why = "killed"
            elif now - self.began > self.limits.wall_s:
                self._why = "time"
            elif now - watched >= WATCH_INTERVAL_S and self._first is not None:
                watched = now
                if memory_of_tree(self._first) > self.limits.memory_bytes:
                    self._why = "memory"
                elif num_files_in_folder(self._first) > self.limits.num_files:
                    self._why = "files"

    def _feed(self, selector: selectors.BaseSelector, fed: int) -> int:
        file = self.process.stdin
        assert file is not None
        try:
            fed += os.write(file.fileno(), memoryview(self.stdin)[fed : fed + _CHUNK])
        except BlockingIOError:
            return fed
        except BrokenPipeError:
            fed = len(self.stdin)
        if fed >= len(self.stdin):
            selector.unregister(file)
            file.close()
        return fed

    def _read(self, selector: selectors.BaseSelector, descriptor: int, name: str) -> bool:
        """Take what is there, up to the limit; return whether there may be more."""
        try:
            chunk = os.read(descriptor, _CHUNK)
        except BlockingIOError:
            return False
        if not chunk:
            selector.unregister(descriptor)
            return False
        if name == "status":
            self._reports += chunk
            self._note_first()
            return True
        room = self.limits.output_bytes - sum(map(len, self._output.values()))
        self._output[name] += chunk[:room]
        if len(chunk) > room:
            self._why = "output"
            return False
        return True

    def _note_first(self) -> None:
        line, complete, _ = self._reports.partition(b"\n")
        if self._first is None and complete:
            self._first = int(json.loads(line)["child-pid"])
            # It may be gone already; then there is nothing to kill.
            with contextlib.suppress(ProcessLookupError):
                self._first_handle = os.pidfd_open(self._first)

    def _end(self) -> None:
        """Kill process 1 of the sandbox: the kernel ends everything else in it, and bubblewrap reports and exits."""
        if self._first_handle >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._first_handle, signal.SIGKILL)
        else:
            # Not `Popen.kill`, which would reap the process and lose its usage. The number cannot be another's yet.
            os.kill(self.process.pid, signal.SIGKILL)

    def _drain(self, selector: selectors.BaseSelector) -> None:
        """Read what the pipes still hold. Nobody has their other ends any more."""
        for key in list(selector.get_map().values()):
            if key.data in ("stdout", "stderr", "status"):
                while self._read(selector, key.fd, key.data):
                    pass

    def _close(self, exited: int) -> None:
        for file in (self.process.stdin, self.process.stdout, self.process.stderr):
            if file is not None:
                with contextlib.suppress(BrokenPipeError):
                    file.close()
        for descriptor in (self.status, exited, self._first_handle):
            if descriptor >= 0:
                os.close(descriptor)

    def _used_its_time(self, number: int | None, cpu_s: float) -> bool:
        """Return whether the signal is that of the processor limit; a second after the first it is SIGKILL."""
        return number == signal.SIGXCPU or (number == signal.SIGKILL and cpu_s > self.limits.cpu_s)

    def _outcome(self, cpu_s: float) -> Outcome:
        wall_s = time.monotonic() - self.began
        stdout, stderr = (bytes(self._output[name]) for name in ("stdout", "stderr"))
        reports = [json.loads(line) for line in self._reports.splitlines()]
        exits = [report["exit-code"] for report in reports if "exit-code" in report]
        if not exits and not self._why:
            end = stderr[-500:].decode("utf-8", "replace").strip() or "it said nothing"
            raise EnvironmentProblem(
                f"bubblewrap ended with status {self.process.returncode} without running the program: {end}"
            )
        code = None if self._why else exits[-1]
        number = code - 128 if code is not None and 128 < code <= 128 + signal.NSIG else None
        return Outcome(
            exit_status=None if number else code,
            signal=number,
            stdout=stdout,
            stderr=stderr,
            timed_out=self._why == "time" or self._used_its_time(number, cpu_s),
            output_exceeded=self._why == "output",
            memory_exceeded=self._why == "memory",
            files_exceeded=self._why == "files",
            wall_s=wall_s,
            cpu_s=cpu_s,
        )
