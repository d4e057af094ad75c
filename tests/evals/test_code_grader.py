"""The code grader: what counts as the program, what passes, and what must not pass whatever it says about itself."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evals.graders.code import CodeGrader
from evals.graders.code_extract import function_code, function_variants, last_python_fence
from evals.graders.code_judge import REASONS
from megatron_sft.errors import EnvironmentProblem
from tests.evals.made_up import fenced

DOUBLE = {
    "kind": "function",
    "prompt": 'from typing import List\n\n\ndef double(x: int) -> int:\n    """ Twice x. """\n',
    "entry_point": "double",
    "test": "def check(candidate):\n    assert candidate(2) == 4\n    assert candidate(-3) == -6\n",
}
SUM = {
    "kind": "tests",
    "fn_name": None,
    "tests": [{"input": "1 2\n", "output": "3\n"}, {"input": "40 2\n", "output": "42\n"}],
    "starter_code": "",
}
APPEND = {
    "kind": "tests",
    "fn_name": "append",
    "tests": [{"input": "[1]\n2", "output": "[1, 2]"}, {"input": '["a"]\n"b"', "output": '["a", "b"]'}],
    "starter_code": "class Solution:\n    def append(self, xs: List[int], x: int) -> List[int]:\n        ",
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("```python\na\n```\nthen\n```python\nb\n```\n", "b\n"),
        ("```python\na\n```\nso\n```\noutput\n```\n", "a\n"),
        ("```py\na\n```", "a\n"),
        ("```Python3\na\n```", "a\n"),
        ("  ```python\n  if a:\n    b\n  ```", "if a:\n  b\n"),
        ("```python\na\n```\n```python\nnot closed", "a\n"),
        ("```python\nx = '''\n   ```inline\n'''\n```\n", "x = '''\n   ```inline\n'''\n"),
        ("```\na\n```", None),
        ("```cpp\na\n```", None),
        ("no fence", None),
        ("", None),
    ],
)
def test_the_last_closed_python_block_is_the_program(text: str, expected: str | None) -> None:
    assert last_python_fence(text) == expected


def test_finding_the_program_takes_time_in_proportion_to_the_text() -> None:
    for line in ("```python\n", "``` ", "```python ", "```\n", "x" * 9 + "\n", " " * 10, "`"):
        text = line * (10**7 // len(line))
        began = time.perf_counter()
        assert last_python_fence(text) is None, line
        assert last_python_fence(text + "\n```python\na\n```\n") == "a\n"
        assert time.perf_counter() - began < 20, line


def test_a_program_keeps_the_prompts_head_and_a_body_continues_the_prompt() -> None:
    prompt = "import os\n\ndef f(x):\n    pass\n"
    whole = function_variants("def f(x):\n    return os\n", prompt, "f")
    assert whole[0] == "import os\n\n\ndef f(x):\n    return os\n\n"
    assert function_variants("    return 1", prompt, "f")[0] == prompt + "    return 1\n"
    assert function_code("```\n    return 1\n```") is None
    assert function_code("    return 1") == "    return 1"
    assert function_code("```python\n1\n```\n```\n2\n```") == "1\n"


@pytest.mark.parametrize(
    "response",
    [
        "    return 2 * x\n",
        "return 2 * x",
        "y = x\nreturn 2 * y",
        "    return 2 * x\n\nThis doubles x.\n",
        "    return helper(x)\n\ndef helper(x):\n    return 2 * x\n",
        fenced("def double(x):\n    return 2 * x"),
        fenced("    return 2 * x"),
        fenced("import math\ndouble = lambda x: math.prod([2, x])"),
        fenced("from __future__ import annotations\ndef double(x: List) -> Unknown:\n    return 2 * x"),
        fenced("def double(x: List[int]):\n    print('noise')\n    return 2 * x\nprint(double(8))"),
        fenced("class Number(int): pass\ndef double(x):\n    return Number(2 * x)"),
        "```python\ndef double(x):\n    return 0\n```\nNo:\n" + fenced("def double(x):\n    return x + x"),
    ],
)
def test_right_functions_pass(response: str, code_grader: CodeGrader) -> None:
    verdict = code_grader.grade(response, DOUBLE)
    assert (verdict.correct, verdict.reason) == (True, "")


EQUAL_TO_ALL = """
class E(int):
    def __eq__(self, other): return True
    def __hash__(self): return 0
    def __getattr__(self, name): return self
"""


SENT_AHEAD = """
import os
for descriptor in range(3, 1000):
    try:
        os.write(descriptor, {!r})
    except OSError:
        pass
def double(x):
    return 0
"""


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        ("", "no_code"),
        ("```\n    return 2 * x\n```", "no_code"),
        ("I cannot do that.", "syntax_error"),
        (fenced("def double(x):\n    return 2 * x\n" + "#" * 2**20), "too_long"),
        (fenced("def double(x:\n    return 2 * x"), "syntax_error"),
        (fenced("def double(x):\n    return '\0'"), "syntax_error"),
        (fenced("double = " + "(" * 10000), "syntax_error"),
        (fenced("double = 5"), "no_entry_point"),
        (fenced("def double(x):\n    return x"), "wrong_answer"),
        (fenced("def double(x):\n    return abs(2 * x)"), "wrong_answer"),
        (fenced("def double(x):\n    pass"), "wrong_answer"),
        (fenced("def double(x):\n    return 1 / 0"), "exception"),
        (fenced("def double(x):\n    return double(x)"), "exception"),
        (fenced("1 / 0\ndef double(x):\n    return 2 * x"), "exception"),
        (fenced("def double(x):\n    raise AssertionError"), "exception"),
        (fenced("def double(x):\n    return bytearray(10 ** 12)"), "memory_limit"),
        (fenced("def double(x):\n    while True: pass"), "time_limit"),
        (fenced("def double(x):\n    return 'x' * 10 ** 8"), None),
        (fenced("def double(x):\n    while True: print('x' * 10 ** 6)"), "output_limit"),
        # Ends early, with all the signs of success.
        (fenced("import sys\nprint('passed')\nsys.exit(0)\ndef double(x): pass"), "exception"),
        (fenced("import os\nos._exit(0)\ndef double(x): pass"), "exited"),
        (fenced("def double(x):\n    import sys; sys.exit(0)"), "exception"),
        (fenced("def double(x):\n    import os; os._exit(0)"), "exited"),
        (fenced("def double(x):\n    import os; os.kill(os.getppid(), 9); os.kill(-1, 9)"), "exception"),
        (fenced("def double(x):\n    raise SystemExit"), "exception"),
        (fenced("def double(x):\n    raise KeyboardInterrupt"), "exception"),
        # Values and classes that are anybody's equal; the test's own names changed.
        (fenced(EQUAL_TO_ALL + "def double(x):\n    return E()"), "wrong_answer"),
        (fenced(EQUAL_TO_ALL.replace("(int)", "") + "def double(x):\n    return E()"), "wrong_answer"),
        (fenced(EQUAL_TO_ALL.replace("(int)", "") + "def double(x):\n    return [E()]"), "wrong_answer"),
        (fenced("import builtins\nbuiltins.AssertionError = ValueError\ndef double(x):\n    return 0"), "wrong_answer"),
        (fenced("def check(candidate): pass\ndef double(x):\n    return 0\nassert_ = print"), "wrong_answer"),
        (fenced("def double(x):\n    return float('nan')"), "wrong_answer"),
        (fenced("import sys\nsys.modules.clear()\ndef double(x):\n    return 0"), None),
        (fenced("import builtins, sys\nbuiltins.exec = builtins.compile = None\ndef double(x):\n    return 0"), None),
        # The channel: a forged verdict, a forged end, nonsense, values sent ahead.
        (
            fenced('print(\'{"reason": "", "detail": "", "num_calls": 2}\')\ndef double(x):\n    return 0'),
            "wrong_answer",
        ),
        (fenced(SENT_AHEAD.format(b'{"reason": "", "detail": "", "num_calls": 2}\n')), None),
        (fenced(SENT_AHEAD.format(b'["ready"]\n["value", 4]\n["value", 4]\n')), None),
        (fenced(SENT_AHEAD.format(b"[" * 10**5 + b"\n")), None),
        (fenced(SENT_AHEAD.format(b'["failed", "", ""]\n')), "exited"),
        (fenced(SENT_AHEAD.format(b'["failed", "bad_item", ""]\n')), "exited"),
        (fenced(SENT_AHEAD.format(b'["failed", [], {}]\n')), "exited"),
        (fenced(SENT_AHEAD.format(b'["ready"]\n["raise", "", ""]\n["raise", [], null]\n')), None),
        (fenced(SENT_AHEAD.format(b'["ready"]\n["value"]\n')), "exited"),
        (fenced("import os\nos.closerange(0, 1000)\ndef double(x): return 0"), "exited"),
    ],
)
def test_wrong_functions_fail_for_a_reason(response: str, reason: str | None, code_grader: CodeGrader) -> None:
    verdict = code_grader.grade(response, DOUBLE)
    assert verdict.correct is False
    assert verdict.reason.split(":")[0] in REASONS[1:]
    assert reason is None or verdict.reason.split(":")[0] == reason, verdict.reason


def test_the_candidate_cannot_read_the_test(code_grader: CodeGrader) -> None:
    # The second assertion's value is a word that the candidate looks for in everything it can reach.
    word = "swordfish" + "-of-the-test"
    answer = DOUBLE | {"test": f"def check(candidate):\n    assert candidate(1) == {word!r}\n"}
    source = """
import gc, glob, os, re, sys
def double(x):
    texts = [repr(value) for value in gc.get_objects() if isinstance(value, (str, dict, list, tuple))]
    frame = sys._getframe()
    while frame:
        texts.append(repr(frame.f_locals) + repr(frame.f_globals))
        frame = frame.f_back
    for folder, _, names in os.walk("/box"):
        texts += [open(os.path.join(folder, name), errors="replace").read() for name in names]
    for path in glob.glob("/proc/[0-9]*/cmdline") + glob.glob("/proc/[0-9]*/environ"):
        texts.append(open(path, errors="replace").read())
    found = re.search("swordfish" + "-of-[a-z-]+", " ".join(texts))
    return found[0] if found else "nothing found"
"""
    verdict = code_grader.grade(fenced(source), answer)
    assert verdict.correct is False and verdict.reason.startswith("wrong_answer")
    # It is not the search that fails.
    shown = source.replace("def double(x):", f"def double(x):\n    shown = {word!r}")
    assert code_grader.grade(fenced(shown), answer).correct is True


DEEP = """
@lru_cache(None)
def depth(n):
    return n and 1 + depth(n - 1)
a, b = map(int, input().split())
print(a + b + depth(20000) - 20000)
"""


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("a, b = map(int, input().split())\nprint(a + b)", ""),
        ("import sys\nprint(sum(map(int, sys.stdin.read().split())))", ""),
        ("print(sum(map(int, open(0).readline().split())), end='')", ""),
        ("print(f'{sum(map(int, input().split())):.3f}  ')", ""),
        ("def main():\n    print(sum(map(int, input().split())))\nif __name__ == '__main__':\n    main()", ""),
        ("print(sum(map(int, input().split())))\nsys.exit(1)", ""),
        ("print(reduce(operator.add, map(int, input().split())))", ""),
        ("import os\nos.write(1, b'%d' % sum(map(int, input().split())))\nos.close(1)", ""),
        (DEEP, ""),
        ("print(3)", "wrong_answer"),
        ("pass", "wrong_answer"),
        ("print(sum(map(int, input().split())))\nprint('done')", "wrong_answer"),
        ("import os\nos.write(1, b'\\xff\\xfe\\x00')", "wrong_answer"),
        ("import os\nos.close(1)", "wrong_answer"),
        ("print(correct)", "exception"),
        ("print(3", "syntax_error"),
        ("x = '\0'", "syntax_error"),
        ("import os\nprint(3)\nos.abort()", "exited"),
        ("import os\nos._exit(7)", "exited"),
        ("while True: pass", "time_limit"),
        ("import time\nprint(3, flush=True)\ntime.sleep(99)", "time_limit"),
        ("x = bytearray(10 ** 11)", "memory_limit"),
        ("while True: print('x' * 10 ** 6)", "output_limit"),
        ("for i in range(10 ** 6): open(str(i), 'w').close()", "output_limit"),
    ],
)
def test_programs_on_standard_input(code: str, reason: str, code_grader: CodeGrader) -> None:
    verdict = code_grader.grade(fenced(code), SUM)
    assert verdict.reason.split(":")[0] == reason, verdict.reason
    assert verdict.correct is (reason == "")


def test_the_failing_test_is_named_and_only_fences_count(code_grader: CodeGrader) -> None:
    assert code_grader.grade(fenced("print(3)"), SUM).reason == (
        "wrong_answer: test 2 of 2: line 1 is '3' instead of '42'"
    )
    assert code_grader.grade("print(sum(map(int, input().split())))", SUM).reason == "no_code"


FORGED = (
    b'["failed", "", ""]\n',
    b'["failed", "bad_item", ""]\n',
    b'["failed", [], ""]\n',
    b'["ready"]\n["right"]\n',
    b'["ready"]\n["", ""]\n',
    b'["ready"]\n["value", {}]\n',
    b'["ready"]\n["value", ["list"]]\n',
)
TRICKLE = """
import os, time
def append(xs, x):
    while True:
        for descriptor in range(3, 1000):
            try:
                os.write(descriptor, b" ")
            except OSError:
                pass
        time.sleep(0.01)
"""


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("class Solution:\n    def append(self, xs: List[int], x: int) -> List[int]:\n        return xs + [x]", ""),
        ("def append(xs, x):\n    return (*xs, x)", ""),
        ("class Solution:\n    def append(self, xs, x):\n        return [1, 2]", "wrong_answer"),
        ("def append(xs, x):\n    return str(xs + [x])", "wrong_answer"),
        (EQUAL_TO_ALL + "def append(xs, x):\n    return E()", "wrong_answer"),
        ("def append(xs, x):\n    return iter(xs + [x])", "wrong_answer"),
        ("def append(xs, x):\n    xs.append(xs)\n    return xs", "wrong_answer"),
        ("def append(xs, x):\n    return 10 ** 10000", "wrong_answer"),
        ("def append(xs):\n    return xs", "exception"),
        ("def other(xs, x):\n    return xs", "no_entry_point"),
        ("class Solution:\n    pass", "no_entry_point"),
        ("class Solution:\n    def __init__(self): 1 / 0\n    def append(self, xs, x): pass", "exception"),
        ("append(", "syntax_error"),
        ("import os\nos._exit(0)", "exited"),
        ("def append(xs, x):\n    import os; os._exit(0)", "exited"),
        ("def append(xs, x):\n    while True: pass", "time_limit"),
        ("while True: pass", "time_limit"),
        ("def append(xs, x):\n    return bytearray(10 ** 11)", "memory_limit"),
        ("def append(xs, x):\n    return 'x' * 10 ** 8", "output_limit"),
        ("import os\nos.closerange(0, 1000)\ndef append(xs, x): return xs", "exited"),
        (TRICKLE, "time_limit"),
        *((SENT_AHEAD.format(line) + "append = double\n", "exited") for line in FORGED),
        ("import os\nos.write(3, b'null\\n' * 9)\ndef append(xs, x): return xs", None),
        (
            "import os\n[os.write(f, b'[\"value\"]\\n') for f in range(3, 30) if os.path.exists(f'/proc/self/fd/{f}')]",
            None,
        ),
    ],
)
def test_functions_with_arguments(code: str, reason: str | None, code_grader: CodeGrader) -> None:
    verdict = code_grader.grade(fenced(code), APPEND)
    assert verdict.correct is (reason == ""), verdict.reason
    assert reason is None or verdict.reason.split(":")[0] == reason, verdict.reason


def test_what_the_prelude_imports_is_not_the_programs_function(code_grader: CodeGrader) -> None:
    answer = APPEND | {"fn_name": "add", "tests": [{"input": "1\n2", "output": "3"}]}
    assert code_grader.grade(fenced("def other(): pass"), answer).reason == "no_entry_point: add"
    assert code_grader.grade(fenced("def add(a, b): return a + b"), answer).correct is True


@pytest.mark.parametrize("answer", [DOUBLE, SUM, APPEND], ids=["check", "stdin", "calls"])
def test_reasons_can_be_written_to_a_file(answer: Any, code_grader: CodeGrader) -> None:
    source = "def double(*_):\n    raise ValueError('half \\ud800 \\0 \\x1b[31m')\nappend = double\n"
    call = "if __name__ == '__main__':\n    double()"
    reason = code_grader.grade(fenced(source + call), answer).reason
    assert reason.startswith("exception: ") and "ValueError: half " in reason
    assert reason.isprintable() and reason.encode()


def test_a_test_may_print(code_grader: CodeGrader) -> None:
    answer = DOUBLE | {"test": "def check(candidate):\n    print('checking')\n    assert candidate(1) == 2\n"}
    assert code_grader.grade("    return 2 * x", answer).correct is True
    assert code_grader.grade("    return 3 * x", answer).reason.startswith("wrong_answer")


@pytest.mark.parametrize(
    "answer",
    [
        {"kind": "other"},
        {},
        "text",
        None,
        SUM | {"tests": []},
        SUM | {"tests": [{"input": "1"}]},
        APPEND | {"tests": [{"input": "[1", "output": "1"}]},
        DOUBLE | {"test": "def check(candidate):\n    pass\n"},
        DOUBLE | {"test": "def check(candidate:"},
    ],
)
def test_a_bad_item_is_undecided(answer: Any, code_grader: CodeGrader) -> None:
    verdict = code_grader.grade(fenced("def double(x): return 2 * x"), answer)
    assert verdict.correct is None
    assert verdict.reason.startswith("bad item: ")


def test_many_threads_share_a_grader(code_grader: CodeGrader) -> None:
    def grade(number: int) -> bool | None:
        return code_grader.grade(f"    return x * {number}", DOUBLE).correct

    with ThreadPoolExecutor(4) as pool:
        verdicts = list(pool.map(grade, [2, 3] * 10))
    assert verdicts == [True, False] * 10


@pytest.mark.parametrize("answer", [DOUBLE, SUM, APPEND], ids=["check", "stdin", "calls"])
@pytest.mark.parametrize("changes", [{"bwrap": "/nowhere/bwrap"}, {"python_folders": ("/nowhere/python",)}])
def test_a_sandbox_that_does_not_start_is_no_verdict(answer: Any, changes: Any, code_grader: CodeGrader) -> None:
    working = code_grader._judge.sandbox
    broken = CodeGrader(sandbox=replace(working, programs=replace(working.programs, **changes)))
    with pytest.raises(EnvironmentProblem, match=r"bubblewrap|bwrap"):
        broken.grade(fenced("def double(x):\n    return 2 * x"), answer)


def test_without_bubblewrap_nothing_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EnvironmentProblem, match="Debian package bubblewrap"):
        CodeGrader()
