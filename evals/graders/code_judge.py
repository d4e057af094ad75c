"""Decides about a program by running it in the sandbox. The candidate's process never holds what it is compared with.

- Programs that read standard input: one run per test; what is printed is compared out here.
- Functions with known arguments: the program runs in one sandbox, is sent arguments over a socket, and its values are
  compared out here.
- HumanEval's tests are programs themselves: they run in a second sandbox, which calls the first over a socket.
"""

import json
import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from evals.graders.code_compare import difference, same_value
from evals.graders.harness import program
from evals.graders.harness.wire import LOAD_FAILURES, WireError, decode, encode, from_line, to_line
from evals.sandbox.limits import Limits, Outcome
from evals.sandbox.run import Sandbox
from evals.sandbox.running import Running

Reason = Literal[
    "",
    "no_code",
    "too_long",
    "syntax_error",
    "no_entry_point",
    "exception",
    "exited",
    "wrong_answer",
    "time_limit",
    "memory_limit",
    "output_limit",
    "bad_item",
]
REASONS: tuple[Reason, ...] = Reason.__args__  # type: ignore[attr-defined]

_HARNESS = "harness"
_START = "import sys; sys.path.insert(0, '/box/harness'); from evals.graders.harness.{0} import main; main()"
_GRACE_S = 1.0
_BROKEN = "the program broke the channel"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Why a program failed; an empty reason when it passed."""

    reason: Reason
    detail: str = ""


PASSED = Finding(reason="")


@dataclass(frozen=True, kw_only=True)
class Judge:
    """Runs candidates. Thread-safe."""

    sandbox: Sandbox
    time_limit_s: int
    """Processor seconds per test; `wall_s` follows from it."""
    limits: Limits
    """Memory, processes and output; its times are replaced by those of the time limit."""

    clock_factor: float = 5.0
    """Limit of wall-clock time over that of processor time."""

    @property
    def wall_s(self) -> float:
        """Seconds after which a test is over, whether it computes, sleeps or waits for a processor.

        Far above the limit of processor time, so that verdicts do not depend on what else the machine does.
        """
        return self.clock_factor * self.time_limit_s

    def judge_stdin(self, source: str, tests: Sequence[dict[str, str]]) -> Finding:
        """Run a program once per test, on its input."""
        files = _harness_files("program") | _spec([source], prelude=True)
        limits = replace(self.limits, cpu_s=self.time_limit_s, wall_s=self.wall_s)
        for number, test in enumerate(tests, start=1):
            outcome = self.sandbox.run(files, self._command("program", "spec.json"), test["input"].encode(), limits)
            finding = _of_program(outcome)
            if finding is None:
                different = difference(outcome.stdout.decode("utf-8", "replace"), test["output"])
                finding = Finding(reason="wrong_answer", detail=different) if different else None
            if finding is not None:
                return _at(finding, number, len(tests))
        return PASSED

    def judge_calls(self, source: str, function: str, calls: Sequence[tuple[list[Any], Any]]) -> Finding:
        """Call a function with each list of arguments and compare what it returns."""
        with _Served(self, [source], function, prelude=True, num_calls=len(calls)) as served:
            finding = _ready(served)
            if finding is not None:
                return finding
            for number, (args, expected) in enumerate(calls, start=1):
                finding = _call(served, args, expected)
                if finding is not None:
                    return _at(finding, number, len(calls))
        return PASSED

    def judge_check(self, variants: Sequence[str], prompt: str, entry_point: str, test: str) -> Finding:
        """Run `check` of a HumanEval-style test on a function; the time limit is for all its assertions together."""
        files = _harness_files("check") | {"prompt.py": prompt.encode(), "test.py": test.encode()}
        command = self._command("check", "prompt.py", "test.py", entry_point, "{channel}")
        limits = replace(self.limits, cpu_s=self.time_limit_s, wall_s=self.wall_s)
        with _Served(self, variants, entry_point, prelude=False, num_calls=None) as served:
            # The test waits for its answers, so that its wall-clock time is the candidate's.
            running = self.sandbox.start(files, command, b"", limits, channel=served.connection.fileno())
            served.connection.close()
            outcome = running.finish()
            finding = _of_check(outcome)
            return served.explain() or finding if finding.reason in ("exited", "time_limit") else finding

    def _command(self, module: str, *arguments: str) -> list[str]:
        return [self.sandbox.python, "-s", "-B", "-c", _START.format(module), *arguments]


class _Served:
    """A candidate's function in a sandbox, with our end of its channel."""

    def __init__(
        self, judge: Judge, variants: Sequence[str], function: str, *, prelude: bool, num_calls: int | None
    ) -> None:
        """Start it; with `num_calls` None the time limit is for all calls together, else for each of so many."""
        self._judge = judge
        scope = "together" if num_calls is None else "each"
        num_limits = (num_calls or 0) + 1
        self._max_bytes = judge.limits.output_bytes
        files = _harness_files("serve") | _spec(variants, prelude=prelude)
        command = judge._command("serve", "spec.json", function, "{channel}", str(judge.time_limit_s), scope)
        limits = replace(
            judge.limits,
            # The server's own limits, in whole seconds, fire before this one.
            cpu_s=(judge.time_limit_s + 1) * (num_limits + 1),
            wall_s=judge.wall_s * num_limits + _GRACE_S,
        )
        self.connection, theirs = socket.socketpair()
        with theirs:
            try:
                self._running: Running = judge.sandbox.start(files, command, b"", limits, channel=theirs.fileno())
            except BaseException:
                self.connection.close()
                raise
        self._outcome: Outcome | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._finish)
        self._thread.start()
        self._buffer = b""

    def __enter__(self) -> "_Served":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.connection.close()
        self._running.kill()
        self._thread.join()
        if self._error is not None and error is None:
            raise self._error

    def _finish(self) -> None:
        try:
            self._outcome = self._running.finish()
        except BaseException as error:
            self._error = error

    def explain(self) -> Finding | None:
        """Return the limit that ended the program, where one did."""
        self._thread.join(_GRACE_S)
        return None if self._outcome is None else _of_limits(self._outcome)

    def send(self, args: list[Any]) -> None:
        """Send the arguments of a call; OSError when the program is gone."""
        self.connection.settimeout(self._judge.wall_s)
        self.connection.sendall(to_line(["call", encode(args), encode({})]))

    def receive(self) -> list[Any]:
        """Return the program's next message.

        Raises:
            TimeoutError: after the time of one test.
            EOFError: when the program is gone.
            OverflowError: when the message is longer than the limit of output.
            WireError: for nonsense.
        """
        deadline = time.monotonic() + self._judge.wall_s
        parts = [self._buffer]
        size = len(self._buffer)
        while b"\n" not in parts[-1]:
            left = deadline - time.monotonic()
            if left <= 0:  # bytes that keep trickling in are no answer
                raise TimeoutError
            self.connection.settimeout(left)
            part = self.connection.recv(1 << 16)
            if not part:
                raise EOFError
            parts.append(part)
            size += len(part)
            if size > self._max_bytes:
                raise OverflowError
        line, _, self._buffer = b"".join(parts).partition(b"\n")
        message = from_line(line)
        if not isinstance(message, list) or len(message) not in (1, 2, 3):
            raise WireError("not a message")
        return message


def _ready(served: _Served) -> Finding | None:
    message = _receive(served)
    if isinstance(message, Finding):
        return message
    if message[0] == "ready":
        return None
    if message[0] == "failed" and len(message) == 3 and message[1] in LOAD_FAILURES:
        return Finding(reason=message[1], detail=str(message[2])[:200])
    return Finding(reason="exited", detail=_BROKEN)


def _call(served: _Served, args: list[Any], expected: Any) -> Finding | None:
    try:
        served.send(args)
    except TimeoutError:
        return Finding(reason="time_limit", detail="the arguments were not read")
    except OSError:
        return served.explain() or Finding(reason="exited", detail="the program ended before all tests had run")
    message = _receive(served)
    if isinstance(message, Finding):
        return message
    if message[0] == "raise":
        reason: Reason = "memory_limit" if message[1] == "MemoryError" else "exception"
        return Finding(reason=reason, detail=str(message[-1])[:200])
    if message[0] != "value" or len(message) != 2:
        return Finding(reason="exited", detail=_BROKEN)
    try:
        value = decode(message[1])
        if same_value(value, expected):
            return None
    except (WireError, RecursionError):
        return Finding(reason="exited", detail=_BROKEN)
    return Finding(reason="wrong_answer", detail=f"{_short(value)} instead of {_short(expected)}")


def _receive(served: _Served) -> list[Any] | Finding:
    try:
        return served.receive()
    except TimeoutError:
        return Finding(reason="time_limit", detail=f"no answer in {served._judge.wall_s:g} s")
    except OverflowError:
        return Finding(reason="output_limit", detail="the returned value is too large")
    except (WireError, RecursionError):
        return Finding(reason="exited", detail=_BROKEN)
    except (EOFError, OSError):
        return served.explain() or Finding(reason="exited", detail="the program ended before all tests had run")


def _short(value: Any) -> str:
    try:
        return repr(value)[:60]
    except (RecursionError, ValueError):  # an integer of too many digits to print
        return f"a {type(value).__name__}"


def _of_check(outcome: Outcome) -> Finding:
    limit = _of_limits(outcome)
    if limit is not None:
        return limit
    try:
        # The test may have printed before.
        report = json.loads(outcome.stdout.splitlines()[-1])
        reason, detail = report["reason"], report["detail"]
        assert reason or report["num_calls"] > 0
    except (ValueError, KeyError, TypeError, IndexError):
        end = outcome.stderr[-200:].decode("utf-8", "replace").strip()
        return Finding(reason="wrong_answer", detail=f"the test ended with status {outcome.exit_status}: {end}")
    return Finding(reason=reason if reason in REASONS else "exited", detail=detail)


def _of_program(outcome: Outcome) -> Finding | None:
    limit = _of_limits(outcome)
    if limit is not None or outcome.exit_status == 0:
        return limit
    lines = outcome.stderr.decode("utf-8", "replace").strip().splitlines()
    last = lines[-1][:200] if lines else ""
    if outcome.exit_status == program.OUT_OF_MEMORY:
        return Finding(reason="memory_limit", detail="MemoryError")
    if outcome.exit_status == program.SYNTAX_ERROR:
        return Finding(reason="syntax_error", detail=last)
    if outcome.exit_status == program.EXCEPTION:
        return Finding(reason="exception", detail=last)
    how = f"signal {outcome.signal}" if outcome.signal else f"status {outcome.exit_status}"
    return Finding(reason="exited", detail=f"ended with {how}")


def _of_limits(outcome: Outcome) -> Finding | None:
    if outcome.timed_out:
        return Finding(reason="time_limit", detail=f"ended after {outcome.wall_s:.1f} s")
    if outcome.memory_exceeded:
        return Finding(reason="memory_limit", detail="all processes together")
    if outcome.output_exceeded or outcome.files_exceeded:
        return Finding(
            reason="output_limit", detail="printed too much" if outcome.output_exceeded else "too many files"
        )
    return None


def _at(finding: Finding, number: int, num_tests: int) -> Finding:
    return replace(finding, detail=f"test {number} of {num_tests}: {finding.detail}")


def _spec(variants: Sequence[str], *, prelude: bool) -> dict[str, bytes]:
    return {"spec.json": json.dumps({"variants": list(variants), "prelude": prelude}).encode()}


def _harness_files(*modules: str) -> dict[str, bytes]:
    folder = Path(program.__file__).parent
    names = {"program": ("program",), "serve": ("serve", "program", "wire"), "check": ("check", "wire")}
    needed = {name for module in modules for name in names[module]}
    return {f"{_HARNESS}/evals/graders/harness/{name}.py": (folder / f"{name}.py").read_bytes() for name in needed}
