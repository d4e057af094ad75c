"""Holds a candidate's program and calls one of its functions for whoever has the other end of the channel.

    serve.py SPEC ENTRY CHANNEL CPU_S each|together

CPU_S is for loading and for each call, or for everything together.

The tests are not here: arguments come one call at a time, and what the function returns leaves as a plain value. A
candidate may break this process and send what it likes; it can thereby return a value, and nothing else.

First line out: `["ready"]`, or `["failed", reason, detail]`. Then for each `["call", args, kwargs]`: `["value", form]`
or `["raise", type name, text]`.
"""

import math
import os
import resource
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

from evals.graders.harness.program import load, read_spec
from evals.graders.harness.wire import decode, encode, from_line, to_line


def main() -> None:
    """Serve calls until the other end closes."""
    spec, entry, channel, cpu_s, scope = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
    with socket.socket(fileno=channel) as connection, connection.makefile("rb") as lines:
        _allow(cpu_s)
        function = _find(connection, spec, entry)
        if function is None:
            return
        connection.sendall(to_line(["ready"]))
        for line in lines:
            _, args, kwargs = map(decode, from_line(line))
            if scope == "each":
                _allow(cpu_s)
            connection.sendall(_reply(function, args, kwargs))


def _find(connection: socket.socket, spec: str, entry: str) -> "Callable[..., Any] | None":
    try:
        code, module = load(read_spec(spec), "solution")
    except Exception as error:
        connection.sendall(to_line(["failed", "syntax_error", _text(error)]))
        return None
    # The prelude has an `add` and a `floor`, too: only what the program defines itself is its function.
    imported = vars(module).get(entry)
    try:
        exec(code, module.__dict__)
        found = vars(module).get(entry)
        if found is imported:
            found = None
        if found is None and hasattr(module, "Solution"):
            found = getattr(module.Solution(), entry, None)
    except BaseException as error:
        reason = "memory_limit" if isinstance(error, MemoryError) else "exception"
        connection.sendall(to_line(["failed", reason, _text(error)]))
        return None
    if not callable(found):
        connection.sendall(to_line(["failed", "no_entry_point", entry]))
        return None
    return found  # type: ignore[no-any-return]


def _reply(function: "Callable[..., Any]", args: "list[Any]", kwargs: "dict[str, Any]") -> bytes:
    try:
        return to_line(["value", encode(function(*args, **kwargs))])
    except BaseException as error:
        return to_line(["raise", type(error).__name__, _text(error)])


def _text(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"[:200]
    except Exception:
        return type(error).__name__


def _allow(cpu_s: int) -> None:
    """Grant so many processor seconds from now on; SIGXCPU ends the process after them."""
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    wanted = math.ceil(time.process_time()) + cpu_s
    resource.setrlimit(resource.RLIMIT_CPU, (wanted if hard < 0 else min(wanted, hard), hard))


if __name__ == "__main__":
    main()
    os._exit(0)
