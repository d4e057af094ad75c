"""Runs a HumanEval-style test in a process without the candidate's code, which it calls over a channel.

    check.py PROMPT TEST ENTRY CHANNEL

Defines what the prompt defines (tests use its helpers), runs the test file, then `check(candidate)`. Prints one JSON
object: `reason` (empty when every assertion held), `detail`, `num_calls`.
"""

import builtins
import contextlib
import json
import socket
import sys
from collections.abc import Callable
from typing import Any, BinaryIO

from evals.graders.harness.wire import LOAD_FAILURES, WireError, decode, encode, from_line, to_line

_ENDED = "the program ended before all tests had run"
_BROKEN = "the program broke the channel"


class ChannelLost(BaseException):
    """The candidate's process ended or sent nonsense: not an `Exception`, so that no test takes it for its own."""

    def __init__(self, reason: str, detail: str) -> None:
        """Keep the verdict that follows."""
        super().__init__(detail)
        self.reason = reason


class Candidate:
    """Stands for the candidate's function."""

    def __init__(self, connection: socket.socket, lines: BinaryIO, name: str) -> None:
        """Talk over a connection, of which `lines` is the reading side."""
        self._connection = connection
        self._lines = lines
        self.__name__ = name
        self.num_calls = 0
        self.raised: tuple[BaseException, str] | None = None
        """The last exception out of the candidate, with its text."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function over there."""
        self.num_calls += 1
        try:
            self._connection.sendall(to_line(["call", encode(list(args)), encode(kwargs)]))
        except OSError:
            raise ChannelLost("exited", _ENDED) from None
        kind, *content = self.receive()
        if kind == "value" and len(content) == 1:
            return self._understood(decode, content[0])
        if kind != "raise" or len(content) != 2:
            raise ChannelLost("exited", _BROKEN)
        name, text = str(content[0]), str(content[1])
        if name == "MemoryError":
            raise ChannelLost("memory_limit", text)
        error = _exception(name, text)
        self.raised = (error, text)
        raise error

    def receive(self) -> "list[Any]":
        """Return the next message of the candidate's process."""
        try:
            line = self._lines.readline()
        except OSError:
            line = b""
        if not line:
            raise ChannelLost("exited", _ENDED)
        message = self._understood(from_line, line)
        if not isinstance(message, list) or not message:
            raise ChannelLost("exited", _BROKEN)
        return message

    def _understood(self, read: Callable[[Any], Any], content: Any) -> Any:
        try:
            return read(content)
        except WireError:
            raise ChannelLost("exited", _BROKEN) from None


def _exception(name: str, text: str) -> Exception:
    """Return the built-in exception of that name; RuntimeError for others."""
    known = getattr(builtins, name, None)
    if isinstance(known, type) and issubclass(known, Exception):
        with contextlib.suppress(TypeError):  # UnicodeDecodeError and the like take more than a text
            return known(text)
    return RuntimeError(text)


def main() -> None:
    """Run the test and print what came out."""
    prompt, test, entry, channel = sys.argv[1:5]
    with socket.socket(fileno=int(channel)) as connection, connection.makefile("rb") as lines:
        candidate = Candidate(connection, lines, entry)
        reason, detail = _run(candidate, _read(prompt), _read(test), entry)
    print(json.dumps({"reason": reason, "detail": detail[:200], "num_calls": candidate.num_calls}))


def _run(candidate: Candidate, prompt: str, test: str, entry: str) -> "tuple[str, str]":
    try:
        namespace = _define(prompt, test)
        namespace[entry] = candidate
        check = namespace["check"]
    except Exception as error:
        return "bad_item", f"{type(error).__name__}: {error}"
    try:
        kind, *content = candidate.receive()
        if kind == "failed" and len(content) == 2 and content[0] in LOAD_FAILURES:
            return content[0], str(content[1])
        if kind != "ready":
            raise ChannelLost("exited", _BROKEN)
        check(candidate)
    except ChannelLost as lost:
        return lost.reason, str(lost)
    except BaseException as error:
        if candidate.raised is not None and error is candidate.raised[0]:
            return "exception", candidate.raised[1]
        return "wrong_answer", f"call {candidate.num_calls}: {type(error).__name__}: {error}"
    return ("", "") if candidate.num_calls else ("bad_item", "the test never calls the function")


def _define(prompt: str, test: str) -> "dict[str, Any]":
    namespace: dict[str, Any] = {"__name__": "check"}
    try:
        code = compile(prompt, "prompt", "exec")
    except SyntaxError:
        code = compile(prompt + "\n    pass\n", "prompt", "exec")  # a prompt that ends with the signature
    exec(code, namespace)
    exec(compile(test, "test", "exec"), namespace)
    return namespace


def _read(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read()


if __name__ == "__main__":
    main()
