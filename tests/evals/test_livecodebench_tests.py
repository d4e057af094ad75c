"""LiveCodeBench's test files: read in the documented forms, and never unpickled."""

import base64
import json
import pickle
import zlib
from pathlib import Path
from typing import Any

import pytest

from evals.livecodebench_tests import code_answer, read_tests, string_of_pickle
from megatron_sft.errors import DataError

PUBLIC = [{"input": "1\n", "output": "2\n", "testtype": "stdin"}]
PRIVATE = [{"input": "5\n", "output": "6\n", "testtype": "stdin"}, {"input": "é", "output": "", "testtype": "stdin"}]


def packed(data: bytes) -> str:
    """As the hub's files pack private tests."""
    return base64.b64encode(zlib.compress(data)).decode()


def row(**changes: Any) -> dict[str, Any]:
    """A miniature problem."""
    fields = {
        "question_id": "abc1_a",
        "starter_code": "",
        "metadata": "{}",
        "public_test_cases": json.dumps(PUBLIC),
        "private_test_cases": packed(pickle.dumps(json.dumps(PRIVATE))),
    }
    return fields | changes


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_public_and_private_tests_are_read(protocol: int) -> None:
    expected = [{"input": test["input"], "output": test["output"]} for test in PUBLIC + PRIVATE]
    content = packed(pickle.dumps(json.dumps(PRIVATE), protocol))
    assert code_answer(row(private_test_cases=content)) == {
        "kind": "tests",
        "fn_name": None,
        "tests": expected,
        "starter_code": "",
    }
    assert read_tests(row(private_test_cases=json.dumps(PRIVATE)), "private_test_cases") == expected[1:]


def test_the_functions_name_is_in_the_metadata() -> None:
    answer = code_answer(row(metadata='{"func_name": "add"}', starter_code="class Solution:"))
    assert (answer["fn_name"], answer["starter_code"]) == ("add", "class Solution:")


class Hostile:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_a_hostile_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    data = pickle.dumps(Hostile(tmp_path / "ran"))
    pickle.loads(data)
    assert (tmp_path / "ran").exists()
    (tmp_path / "ran").unlink()
    with pytest.raises(DataError, match=r"abc1_a: field private_test_cases: .*more than a string"):
        code_answer(row(private_test_cases=packed(data)))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "data",
    [
        pickle.dumps(["a", "b"]),
        pickle.dumps(("a",)),
        pickle.dumps(b"a"),
        pickle.dumps(5),
        pickle.dumps("a")[:-1],
        b"cos\nsystem\n(S'true'\ntR.",
        b"(S'a'\nios\nsystem\n.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.",
        b"\x80\x04\x8c\x01a\x8c\x01b.",
        b"\x80\x02\x58\xff\xff\xff\x7fa.",
        b"\x80\x02\x82\x01.",
        b"P1\n.",
        b".",
        b"",
    ],
)
def test_a_pickle_of_anything_but_a_string_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        string_of_pickle(data)


@pytest.mark.parametrize(
    "changes",
    [
        {"private_test_cases": "%%%"},
        {"private_test_cases": base64.b64encode(b"not zlib").decode()},
        {"private_test_cases": packed(pickle.dumps("not json"))},
        {"private_test_cases": packed(pickle.dumps("[]"))[:-8]},
        {"private_test_cases": None},
        {"public_test_cases": "[1]"},
        {"public_test_cases": "[", "private_test_cases": "[]"},
        {"public_test_cases": "[]", "private_test_cases": "[]"},
        {"metadata": "{"},
    ],
)
def test_damaged_fields_are_named(changes: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="LiveCodeBench problem abc1_a"):
        code_answer(row(**changes))


def test_a_compressed_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evals.livecodebench_tests.MAX_BYTES", 1 << 20)
    with pytest.raises(DataError, match="more than 1048576 bytes"):
        code_answer(row(private_test_cases=packed(bytes(1 << 22))))
