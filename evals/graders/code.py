"""Programs written by a model: run on tests in the sandbox, where all tests must pass."""

import json
from pathlib import Path
from typing import Any

from evals.graders.code_extract import MAX_PROGRAM_CHARS, function_code, function_variants, last_python_fence
from evals.graders.code_judge import Finding, Judge
from evals.graders.verdict import Verdict
from evals.sandbox.limits import Limits
from evals.sandbox.run import Sandbox, find_sandbox


class CodeGrader:
    """HumanEval's and LiveCodeBench's problems; docs/sandbox.md has the forms of an answer. Thread-safe."""

    name = "code@1"
    reads_trace = False

    def __init__(
        self,
        *,
        time_limit_s: int = 6,
        limits: Limits | None = None,
        python: Path | None = None,
        sandbox: Sandbox | None = None,
    ) -> None:
        """Find the sandbox, or take one that was found before.

        Args:
            time_limit_s: processor seconds per test.
            limits: memory, processes, output; the times in it are not used.
            python: the interpreter for programs. Default: the system's.
            sandbox: from `find_sandbox`; then `python` is its own.

        Raises:
            EnvironmentProblem: when there is no sandbox: code is never run without one.
        """
        found = sandbox or find_sandbox(python)
        self._judge = Judge(sandbox=found, time_limit_s=time_limit_s, limits=limits or Limits())

    def grade(self, final: str, answer: Any) -> Verdict:
        """See `Grader`.

        Raises:
            EnvironmentProblem: when the sandbox does not start; that says nothing about the answer.
        """
        try:
            finding = self._find(final, answer)
        except (KeyError, TypeError, ValueError) as error:
            return Verdict(correct=None, reason=f"bad item: {type(error).__name__}: {str(error)[:150]}")
        if finding.reason == "bad_item":
            return Verdict(correct=None, reason=f"bad item: {finding.detail}")
        if not finding.reason:
            return Verdict(correct=True, reason="")
        reason = f"{finding.reason}: {finding.detail}" if finding.detail else finding.reason
        # Details quote the program, which may print half characters that no file can hold.
        shown = "".join(character if character.isprintable() else "?" for character in reason)
        return Verdict(correct=False, reason=shown)

    def close(self) -> None:
        """See `Grader`."""

    def _find(self, final: str, answer: Any) -> Finding:
        kind = answer["kind"]
        if kind == "function":
            prompt, entry_point, test = answer["prompt"], answer["entry_point"], answer["test"]
            code = function_code(final) or ""
            refused = _refused(code)
            variants = [] if refused else function_variants(code, prompt, entry_point)
            return refused or self._judge.judge_check(variants, prompt, entry_point, test)
        if kind != "tests":
            raise ValueError(f"no kind {kind!r} of code problem; known are function, tests")
        tests = [{"input": str(test["input"]), "output": str(test["output"])} for test in answer["tests"]]
        if not tests:
            raise ValueError("no tests")
        calls = [_call(test) for test in tests] if answer.get("fn_name") else []
        code = last_python_fence(final) or ""
        refused = _refused(code)
        if refused is not None:
            return refused
        if answer.get("fn_name"):
            return self._judge.judge_calls(code, str(answer["fn_name"]), calls)
        return self._judge.judge_stdin(code, tests)


def _refused(code: str) -> Finding | None:
    if not code.strip():
        return Finding(reason="no_code")
    if len(code) > MAX_PROGRAM_CHARS:
        return Finding(reason="too_long", detail=f"{len(code)} characters")
    return None


def _call(test: dict[str, str]) -> tuple[list[Any], Any]:
    """Return a test's arguments, one JSON value per line, and the expected value."""
    return [json.loads(line) for line in test["input"].split("\n") if line.strip()], json.loads(test["output"])


class CodePaperGrader(CodeGrader):
    """The same for the last fence of the whole response, as the paper's own code takes it, one in a trace included."""

    name = "code_paper@1"
    reads_trace = True
