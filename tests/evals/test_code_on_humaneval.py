"""The code grader on HumanEval: canonical solutions, certain mutants, and variations run without a sandbox."""

import ast
import gzip
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from evals.graders.code import CodeGrader
from evals.sandbox.limits import Limits
from tests.evals.made_up import fenced


def problems(shared_data: Path) -> list[dict[str, str]]:
    """The 164 problems."""
    with gzip.open(shared_data / "eval" / "humaneval.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line in file]
    assert len(rows) == 164
    return rows


def verdicts(code_grader: CodeGrader, pairs: list[tuple[dict[str, str], str]]) -> list[tuple[str, bool | None, str]]:
    """Grade responses, two at a time."""

    def grade(pair: tuple[dict[str, str], str]) -> tuple[str, bool | None, str]:
        row, response = pair
        verdict = code_grader.grade(response, {"kind": "function"} | row)
        return row["task_id"], verdict.correct, verdict.reason

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(grade, pairs))


@pytest.mark.slow
def test_humanevals_solutions_pass(shared_data: Path, code_grader: CodeGrader) -> None:
    rows = problems(shared_data)
    as_bodies = [(row, row["canonical_solution"]) for row in rows]
    as_programs = [(row, fenced(row["prompt"] + row["canonical_solution"])) for row in rows]
    assert [found for found in verdicts(code_grader, as_bodies + as_programs) if found[1] is not True] == []


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
def test_humanevals_mutated_solutions_fail(shared_data: Path, code_grader: CodeGrader) -> None:
    kinds: list[str] = []
    pairs: list[tuple[dict[str, str], str]] = []
    rows = some(problems(shared_data))
    for row in rows:
        for kind, source in mutants(row).items():
            kinds.append(kind)
            pairs.append((row, fenced(source)))
    assert len(pairs) == 7 * len(rows) >= 7 * 17
    found = verdicts(code_grader, pairs)
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
def test_verdicts_equal_those_of_plain_execution(shared_data: Path, code_grader: CodeGrader) -> None:
    """The reference: solution, test and call in one file, run as HumanEval describes; status 0 is a pass."""
    sandbox = code_grader._judge.sandbox

    def plain(row: dict[str, str], source: str) -> bool:
        file = f"{source}\n{row['test']}\ncheck({row['entry_point']})\n".encode()
        outcome = sandbox.run({"main.py": file}, [sandbox.python, "main.py"], b"", Limits(cpu_s=2, wall_s=10))
        return outcome.exit_status == 0

    pairs = [(row, source) for row in some(problems(shared_data)) for source in variations(row)[:2]]
    with ThreadPoolExecutor(2) as pool:
        expected = list(pool.map(lambda pair: plain(*pair), pairs))
    found = verdicts(code_grader, [(row, fenced(source)) for row, source in pairs])
    differing = [(verdict, right) for verdict, right in zip(found, expected, strict=True) if verdict[1] is not right]
    assert differing == []
    print(f"{sum(expected)} of {len(expected)} variations pass")
    # Both kinds occur, so that agreement means something.
    assert sum(expected) >= len(pairs) // 28
    assert expected.count(False) >= len(pairs) // 2
