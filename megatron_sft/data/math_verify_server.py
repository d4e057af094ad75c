r"""math-verify as a program of its own: JSON requests on standard input, JSON verdicts on standard output.

    python -m megatron_sft.data.math_verify_server

    {"ready": true}                                                          <- first line, or {"error": "..."}
    {"gold": "\\frac{1}{2}", "answer": "0.5", "cpu_seconds": 10.0}           -> one request
    {"verdict": "equal", "detail": "", "cpu_seconds": 0.004}                 <- its verdict, and the time that it took

`Reference.compare` is the one definition of math-verify's verdict in this project: the data layer, the graders and the
tests use it. math-verify's own alarms are off. In their place every request may use `cpu_seconds` of processor time and
no more: the kernel then ends the process with SIGPROF, also in the middle of a power of big integers, where Python's
own signal handlers would not run. So a verdict depends on the work it takes and not on how busy the machine is. The
caller sees the end of the stream, counts the pair as undecided and starts the program anew.
"""

import json
import logging
import os
import resource
import signal
import sys
import time
from typing import Any

COMMAND = ("-m", "megatron_sft.data.math_verify_server")
"""Arguments for Python that run this program."""

MEMORY_BYTES = 4 << 30
"""Address space of the process; more raises MemoryError."""

OUT_OF_RESOURCES = (MemoryError, RecursionError)
"""What says nothing about the answer: math-verify itself takes them for a wrong answer."""


class ResourceErrors(logging.Handler):
    """Keeps the errors of `OUT_OF_RESOURCES` that math-verify catches, reports to its log and then forgets."""

    def __init__(self) -> None:
        """Begin with none."""
        super().__init__(logging.DEBUG)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the name of the error."""
        kind = record.exc_info[0] if record.exc_info else None
        if kind is not None and issubclass(kind, OUT_OF_RESOURCES):
            self.found.append(kind.__name__)


class Reference:
    """math-verify's verdict, unhurried. Keep one: the import takes a second and the first parse builds tables.

    Raises:
        ImportError: when math-verify is not installed.
    """

    def __init__(self) -> None:
        """Import math-verify and silence its log."""
        from math_verify import parse, verify

        self._parse, self._verify = parse, verify
        self._errors = ResourceErrors()
        for name in ("math_verify.parser", "math_verify.grader"):
            logger = logging.getLogger(name)
            logger.setLevel(logging.DEBUG)
            logger.propagate = False
            logger.handlers = [self._errors]

    def compare(self, gold: str, answer: str) -> tuple[str, str]:
        r"""Verdict on the content of a box: `equal`, `different` or `undecided`, and why it is undecided.

        The gold answer is wrapped into dollar signs as it is, also where it holds some already; the answer stands in a
        `\boxed{}`. What math-verify reads nothing from is different from everything.
        """
        self._errors.found.clear()
        try:
            wanted = self._parse(f"${gold}$", parsing_timeout=None)
            found = self._parse(f"\\boxed{{{answer}}}", parsing_timeout=None)
            if self._verify(wanted, found, timeout_seconds=None):
                return "equal", ""
        except OUT_OF_RESOURCES as error:
            self._errors.found.append(type(error).__name__)
        if self._errors.found:
            return "undecided", self._errors.found[0]
        return "different", ""


def main() -> None:
    """Serve until the input ends."""
    # Whatever a library prints must not get between the verdicts.
    verdicts = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8", newline="\n")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    try:
        reference = Reference()
    except ImportError as error:
        _reply(verdicts, {"error": f'math-verify cannot be imported ({error}): install the extra "eval"'})
        return
    # The tables of the parser are built by its first use, at no pair's expense.
    reference.compare(r"\frac{1}{2}", "x^2+1")
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    _reply(verdicts, {"ready": True})
    for line in sys.stdin.buffer:
        request = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, request["cpu_seconds"])
        began = time.process_time()
        verdict, detail = reference.compare(request["gold"], request["answer"])
        used = time.process_time() - began
        signal.setitimer(signal.ITIMER_PROF, 0)
        _reply(verdicts, {"verdict": verdict, "detail": detail, "cpu_seconds": used})


def _reply(verdicts: Any, message: dict[str, Any]) -> None:
    verdicts.write(json.dumps(message) + "\n")
    verdicts.flush()


if __name__ == "__main__":
    main()
