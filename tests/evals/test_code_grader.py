"""The code grader: what counts as the program, what passes, and what must not pass whatever it says about itself."""

import ast
import gzip
import json
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evals.graders.code import CodeGrader
from evals.graders.code_compare import difference, same_value
from evals.graders.code_extract import function_code, function_variants, last_python_fence
from evals.graders.code_judge import REASONS
from evals.graders.harness.wire import Opaque, WireError, decode, encode, from_line, to_line
from evals.sandbox.limits import Limits
from megatron_sft.errors import EnvironmentProblem

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


def fenced(code: str) -> str:
    """A response that ends with a program."""
    return f"Here it is.\n\n```python\n{code}\n```\n"


@pytest.fixture(scope="module")
def grader() -> CodeGrader:
    """A grader with a short time limit."""
    if shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed (apt-get install bubblewrap)")
    return CodeGrader(time_limit_s=2)


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
def test_right_functions_pass(response: str, grader: CodeGrader) -> None:
    verdict = grader.grade(response, DOUBLE)
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
def test_wrong_functions_fail_for_a_reason(response: str, reason: str | None, grader: CodeGrader) -> None:
    verdict = grader.grade(response, DOUBLE)
    assert verdict.correct is False
    assert verdict.reason.split(":")[0] in REASONS[1:]
    assert reason is None or verdict.reason.split(":")[0] == reason, verdict.reason


def test_the_candidate_cannot_read_the_test(grader: CodeGrader) -> None:
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
    verdict = grader.grade(fenced(source), answer)
    assert verdict.correct is False and verdict.reason.startswith("wrong_answer")
    # It is not the search that fails.
    shown = source.replace("def double(x):", f"def double(x):\n    shown = {word!r}")
    assert grader.grade(fenced(shown), answer).correct is True


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
def test_programs_on_standard_input(code: str, reason: str, grader: CodeGrader) -> None:
    verdict = grader.grade(fenced(code), SUM)
    assert verdict.reason.split(":")[0] == reason, verdict.reason
    assert verdict.correct is (reason == "")


def test_the_failing_test_is_named_and_only_fences_count(grader: CodeGrader) -> None:
    assert grader.grade(fenced("print(3)"), SUM).reason == ("wrong_answer: test 2 of 2: line 1 is '3' instead of '42'")
    assert grader.grade("print(sum(map(int, input().split())))", SUM).reason == "no_code"


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
def test_functions_with_arguments(code: str, reason: str | None, grader: CodeGrader) -> None:
    verdict = grader.grade(fenced(code), APPEND)
    assert verdict.correct is (reason == ""), verdict.reason
    assert reason is None or verdict.reason.split(":")[0] == reason, verdict.reason


def test_what_the_prelude_imports_is_not_the_programs_function(grader: CodeGrader) -> None:
    answer = APPEND | {"fn_name": "add", "tests": [{"input": "1\n2", "output": "3"}]}
    assert grader.grade(fenced("def other(): pass"), answer).reason == "no_entry_point: add"
    assert grader.grade(fenced("def add(a, b): return a + b"), answer).correct is True


@pytest.mark.parametrize("answer", [DOUBLE, SUM, APPEND], ids=["check", "stdin", "calls"])
def test_reasons_can_be_written_to_a_file(answer: Any, grader: CodeGrader) -> None:
    source = "def double(*_):\n    raise ValueError('half \\ud800 \\0 \\x1b[31m')\nappend = double\n"
    call = "if __name__ == '__main__':\n    double()"
    reason = grader.grade(fenced(source + call), answer).reason
    assert reason.startswith("exception: ") and "ValueError: half " in reason
    assert reason.isprintable() and reason.encode()


def test_a_test_may_print(grader: CodeGrader) -> None:
    answer = DOUBLE | {"test": "def check(candidate):\n    print('checking')\n    assert candidate(1) == 2\n"}
    assert grader.grade("    return 2 * x", answer).correct is True
    assert grader.grade("    return 3 * x", answer).reason.startswith("wrong_answer")


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
def test_a_bad_item_is_undecided(answer: Any, grader: CodeGrader) -> None:
    verdict = grader.grade(fenced("def double(x): return 2 * x"), answer)
    assert verdict.correct is None
    assert verdict.reason.startswith("bad item: ")


def test_many_threads_share_a_grader(grader: CodeGrader) -> None:
    def grade(number: int) -> bool | None:
        return grader.grade(f"    return x * {number}", DOUBLE).correct

    with ThreadPoolExecutor(4) as pool:
        verdicts = list(pool.map(grade, [2, 3] * 10))
    assert verdicts == [True, False] * 10


@pytest.mark.parametrize("answer", [DOUBLE, SUM, APPEND], ids=["check", "stdin", "calls"])
@pytest.mark.parametrize("changes", [{"bwrap": "/nowhere/bwrap"}, {"python_folders": ("/nowhere/python",)}])
def test_a_sandbox_that_does_not_start_is_no_verdict(answer: Any, changes: Any, grader: CodeGrader) -> None:
    working = grader._judge.sandbox
    broken = CodeGrader(sandbox=replace(working, programs=replace(working.programs, **changes)))
    with pytest.raises(EnvironmentProblem, match=r"bubblewrap|bwrap"):
        broken.grade(fenced("def double(x):\n    return 2 * x"), answer)


def test_without_bubblewrap_nothing_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EnvironmentProblem, match="Debian package bubblewrap"):
        CodeGrader()


@pytest.mark.parametrize(
    ("printed", "expected", "equal"),
    [
        ("3\n", "3", True),
        ("\n 3 \n\n", "3", True),
        ("1  2", "1 2", True),
        ("a  b", "a b", False),
        ("1.0 2e0", "1 2", True),
        ("0.1", "0.10000000000000001", False),
        ("1 2\n3", "1 2 3", False),
        ("YES", "Yes", False),
        ("nan", "nan", True),
        ("snan 1", "snan 2", False),
        ("", "", True),
        ("1\r\n2\r\n", "1\n2", True),
        ("1e999999999", "1", False),
        ("9" * 10**6, "9" * 10**6 + ".0", True),
    ],
)
def test_outputs_are_equal_by_line_or_by_number(printed: str, expected: str, equal: bool) -> None:
    assert (difference(printed, expected) is None) is equal


def test_values_travel_as_plain_values() -> None:
    class Text(str):
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = str.__hash__

    values: list[Any] = [None, True, 5, -(2**70), 1.5, "é\ud800", b"\0\xff", 2j, [1, (2, {3})], {"a": {1: frozenset()}}]
    for value in values:
        back = decode(from_line(to_line(encode(value))))
        assert back == value and type(back) is type(value)
    back = decode(from_line(to_line(encode(Text("a")))))
    assert type(back) is str and back != "b"
    assert isinstance(decode(encode(iter([]))), Opaque)
    assert decode(encode(object())) != decode(encode(object()))
    for form in ({"a": 1}, ["list"], ["other", []], ["set", [["list", []]]], ["int", "x"], [1, 2, 3]):
        with pytest.raises(WireError):
            decode(form)
    with pytest.raises(WireError):
        from_line(b"[" * 10**6)
    assert same_value((1, [2, (3,)]), [1, [2, [3]]])
    assert not same_value("[1]", [1])


# HumanEval


def problems(shared_data: Path) -> list[dict[str, str]]:
    """The 164 problems."""
    with gzip.open(shared_data / "eval" / "humaneval.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line in file]
    assert len(rows) == 164
    return rows


def verdicts(grader: CodeGrader, pairs: list[tuple[dict[str, str], str]]) -> list[tuple[str, bool | None, str]]:
    """Grade responses, two at a time."""

    def grade(pair: tuple[dict[str, str], str]) -> tuple[str, bool | None, str]:
        row, response = pair
        verdict = grader.grade(response, {"kind": "function"} | row)
        return row["task_id"], verdict.correct, verdict.reason

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(grade, pairs))


@pytest.mark.slow
def test_humanevals_solutions_pass(shared_data: Path, grader: CodeGrader) -> None:
    rows = problems(shared_data)
    as_bodies = [(row, row["canonical_solution"]) for row in rows]
    as_programs = [(row, fenced(row["prompt"] + row["canonical_solution"])) for row in rows]
    assert [found for found in verdicts(grader, as_bodies + as_programs) if found[1] is not True] == []


def mutants(row: dict[str, str]) -> dict[str, str]:
    """Programs that are certain to be wrong: their function never returns what the solution does."""
    name, tree = row["entry_point"], row["prompt"] + row["canonical_solution"]
    last = f"\n\n_right = {name}\n\ndef {name}(*args):\n    "
    return {
        "returns nothing": f"{tree}{last}_right(*args)\n",
        "raises": f"{tree}{last}raise ValueError(_right(*args))\n",
        "wraps": f"{tree}{last}return [_right(*args)]\n",
        "names it": f"{tree}{last}return 'the result is ' + repr(_right(*args))\n",
        "off by one": (
            f"{tree}{last}value = _right(*args)\n"
            "    if isinstance(value, bool) or value is None: return not value\n"
            "    if isinstance(value, (int, float)): return value + 1\n"
            "    if isinstance(value, (list, tuple)): return value + type(value)([0])\n"
            "    if isinstance(value, dict): return {**value, 'x': 1}\n"
            "    return value + '.'\n"
        ),
        "returns at once": row["prompt"] + "    return\n",
        "lost its returns": _without_returns(tree, name),
    }


def _without_returns(source: str, name: str) -> str:
    class Eraser(ast.NodeTransformer):
        def visit_Return(self, node: ast.Return) -> ast.AST:
            return ast.copy_location(ast.Return(value=ast.Constant(value=Ellipsis)), node)

    tree = ast.parse(source)
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            node.body = [Eraser().visit(statement) for statement in node.body]
    return ast.unparse(ast.fix_missing_locations(tree))


def some(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """Every tenth problem, or all where MEGATRON_SFT_HUMANEVAL is `all` (some five minutes)."""
    return rows if os.environ.get("MEGATRON_SFT_HUMANEVAL") == "all" else rows[::10]


@pytest.mark.slow
def test_humanevals_mutated_solutions_fail(shared_data: Path, grader: CodeGrader) -> None:
    kinds: list[str] = []
    pairs: list[tuple[dict[str, str], str]] = []
    rows = some(problems(shared_data))
    for row in rows:
        for kind, source in mutants(row).items():
            kinds.append(kind)
            pairs.append((row, fenced(source)))
    assert len(pairs) == 7 * len(rows) >= 7 * 17
    found = verdicts(grader, pairs)
    wrong = [(kind, *verdict) for kind, verdict in zip(kinds, found, strict=True) if verdict[1] is not False]
    assert wrong == []


def variations(row: dict[str, str]) -> list[str]:
    """Solutions with one operator or constant changed: wrong or not, the tests must say."""
    swapped: dict[type, type] = {
        ast.Add: ast.Sub,
        ast.Sub: ast.Add,
        ast.Mult: ast.Add,
        ast.Lt: ast.LtE,
        ast.LtE: ast.Lt,
        ast.Gt: ast.GtE,
        ast.GtE: ast.Gt,
        ast.Eq: ast.NotEq,
        ast.And: ast.Or,
        ast.Or: ast.And,
    }
    source = row["prompt"] + row["canonical_solution"]
    found: list[str] = []
    for index in range(len(_nodes(ast.parse(source), row["entry_point"]))):
        tree = ast.parse(source)
        node = _nodes(tree, row["entry_point"])[index]
        if isinstance(node, ast.Compare) and type(node.ops[0]) in swapped:
            node.ops[0] = swapped[type(node.ops[0])]()
        elif isinstance(node, ast.BinOp | ast.BoolOp) and type(node.op) in swapped:
            node.op = swapped[type(node.op)]()
        elif isinstance(node, ast.Constant) and type(node.value) is int:
            node.value += 1
        else:
            continue
        found.append(ast.unparse(ast.fix_missing_locations(tree)))
    return found


def _nodes(tree: ast.Module, name: str) -> list[ast.AST]:
    # The prompt's helpers stay as they are: some tests call them, and the grader gives tests the prompt's own.
    function = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name)
    return list(ast.walk(function))


@pytest.mark.slow
def test_verdicts_equal_those_of_plain_execution(shared_data: Path, grader: CodeGrader) -> None:
    """The reference: solution, test and call in one file, run as HumanEval describes; status 0 is a pass."""
    sandbox = grader._judge.sandbox

    def plain(row: dict[str, str], source: str) -> bool:
        file = f"{source}\n{row['test']}\ncheck({row['entry_point']})\n".encode()
        outcome = sandbox.run({"main.py": file}, [sandbox.python, "main.py"], b"", Limits(cpu_s=2, wall_s=10))
        return outcome.exit_status == 0

    pairs = [(row, source) for row in some(problems(shared_data)) for source in variations(row)[:2]]
    with ThreadPoolExecutor(2) as pool:
        expected = list(pool.map(lambda pair: plain(*pair), pairs))
    found = verdicts(grader, [(row, fenced(source)) for row, source in pairs])
    differing = [(verdict, right) for verdict, right in zip(found, expected, strict=True) if verdict[1] is not right]
    assert differing == []
    print(f"{sum(expected)} of {len(expected)} variations pass")
    # Both kinds occur, so that agreement means something.
    assert sum(expected) >= len(pairs) // 28
    assert expected.count(False) >= len(pairs) // 2
