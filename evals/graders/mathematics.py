"""Mathematical equivalence by math-verify, in a process that can be killed.

math-verify relies on alarms, which do not fire in threads and are overrun by sympy for seconds or minutes (towers of
powers, huge factorials). So it runs in a process of its own, with a hard time limit and bounded memory; whatever does
not finish is undecided.
"""

import multiprocessing
from multiprocessing.connection import Connection
from typing import Any

from evals.graders.verdict import Verdict
from megatron_sft.data.chat import last_boxed, verify_math

MEMORY_BYTES = 4 << 30
START_LIMIT_S = 120.0
"""The first answer of a process waits for the import of sympy."""


class MathGrader:
    """Equal by the native exact match, else equivalent by math-verify."""

    name = "math@1"

    def __init__(self, limit_s: float = 5.0) -> None:
        """Decide about an answer within `limit_s` seconds or not at all."""
        self.limit_s = limit_s
        self._process: Any = None
        self._connection: Any = None

    def grade(self, final: str, answer: Any) -> Verdict:
        """See `Grader`."""
        if not isinstance(answer, str):
            return Verdict(correct=None, reason=f"bad item: the math grader needs a string, not {answer!r}")
        boxed = last_boxed(final)
        if boxed is None:
            return Verdict(correct=False, reason="no_boxed_answer")
        if verify_math(final, answer)[0]:
            return Verdict(correct=True, reason="")
        return self._ask(answer, boxed)

    def _ask(self, answer: str, boxed: str) -> Verdict:
        connection = self._connect()
        try:
            connection.send((answer, boxed))
            if not connection.poll(self.limit_s):
                self._kill()
                return Verdict(correct=None, reason=f"undecided: no result within {self.limit_s} s for {boxed[:80]!r}")
            correct, reason = connection.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            self._kill()
            return Verdict(correct=None, reason=f"undecided: the grading process died on {boxed[:80]!r}")
        return Verdict(correct=correct, reason=reason)

    def _connect(self) -> Any:
        if self._process is None:
            context = multiprocessing.get_context("spawn")
            self._connection, theirs = context.Pipe()
            self._process = context.Process(target=_serve, args=(theirs,), name="math-grader", daemon=True)
            self._process.start()
            theirs.close()
            if not self._connection.poll(START_LIMIT_S):
                self._kill()
                raise RuntimeError(f"the grading process was not ready within {START_LIMIT_S} s")
            problem = self._connection.recv()
            if problem:
                self._kill()
                raise RuntimeError(problem)
        return self._connection

    def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._connection.close()
            self._process = self._connection = None

    def close(self) -> None:
        """See `Grader`."""
        self._kill()


def _serve(connection: Connection) -> None:
    """Run in the child: answer (gold, boxed) with (correct, reason), one after the other."""
    try:
        from math_verify import parse, verify
    except ImportError as error:
        connection.send(f'the math grader needs math-verify ({error}): install the extra "eval"')
        return
    _limit_memory()
    connection.send("")
    while True:
        try:
            answer, boxed = connection.recv()
        except EOFError:
            return
        # The time limit is the parent's; math-verify's own alarms are switched off.
        gold = parse(f"\\boxed{{{answer}}}", parsing_timeout=None)
        found = parse(f"\\boxed{{{boxed}}}", parsing_timeout=None)
        if not gold:
            connection.send((None, f"undecided: math-verify cannot read the item's answer {answer!r}"))
        elif verify(gold, found, timeout_seconds=None):
            connection.send((True, ""))
        else:
            connection.send((False, f"wrong_answer: {boxed[:80]!r} is not {answer!r}"))


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # not a Unix system
        return
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
