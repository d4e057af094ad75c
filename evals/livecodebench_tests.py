"""The tests of LiveCodeBench's files, read without unpickling.

`public_test_cases` is JSON: a list of `{"input", "output", "testtype"}`. `private_test_cases` is the same, or, in the
files of code_generation_lite, that JSON as a pickled string, compressed by zlib, in base64. A pickle can run anything
when it is loaded, so this one is never loaded: its operations are listed, and only those of a single string accepted.
"""

import base64
import binascii
import json
import pickletools
import zlib
from collections.abc import Mapping
from typing import Any

from megatron_sft.errors import DataError

MAX_BYTES = 1 << 30
"""Largest size of a problem's private tests, uncompressed."""

_STRINGS = {"UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
_HARMLESS = {"PROTO", "FRAME", "MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT", "STOP"}


def code_answer(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a problem's answer for the code grader: its public tests, then its private ones.

    Args:
        row: with `public_test_cases`, `private_test_cases`, `starter_code` and `metadata` (JSON; `func_name` in it
            makes the tests calls of that function).

    Raises:
        DataError: for a row of another form, naming the field.
    """
    tests = read_tests(row, "public_test_cases") + read_tests(row, "private_test_cases")
    if not tests:
        raise DataError(f"{_name(row)}: has no tests")
    metadata = _json(row.get("metadata") or "{}", row, "metadata")
    return {
        "kind": "tests",
        "fn_name": metadata.get("func_name") if isinstance(metadata, dict) else None,
        "tests": tests,
        "starter_code": row.get("starter_code") or "",
    }


def read_tests(row: Mapping[str, Any], field: str) -> list[dict[str, str]]:
    """Return the tests in one field of a row, as `{"input", "output"}`.

    Raises:
        DataError: when the field is absent or damaged, or a pickle of more than one string.
    """
    content = row.get(field)
    if not isinstance(content, str):
        raise DataError(f"{_name(row)}: field {field}: expected a string, not {type(content).__name__}")
    text = content if content.lstrip().startswith("[") else _unpack(content, row, field)
    tests = _json(text, row, field)
    if not isinstance(tests, list):
        raise DataError(f"{_name(row)}: field {field}: expected a list of tests")
    for test in tests:
        if (
            not isinstance(test, dict)
            or not isinstance(test.get("input"), str)
            or not isinstance(test.get("output"), str)
        ):
            raise DataError(f"{_name(row)}: field {field}: a test needs input and output as strings: {str(test)[:100]}")
    return [{"input": test["input"], "output": test["output"]} for test in tests]


def string_of_pickle(data: bytes) -> str:
    """Return the string that a pickle consists of, without loading it.

    Raises:
        ValueError: for a pickle of anything else, or none.
    """
    strings: list[str] = []
    for operation, argument, _ in pickletools.genops(data):
        if operation.name in _STRINGS and not strings:
            strings.append(str(argument))
        elif operation.name not in _HARMLESS:
            raise ValueError(f"the pickle holds more than a string (operation {operation.name}); it was not loaded")
    if not strings:
        raise ValueError("the pickle holds no string")
    return strings[0]


def _unpack(content: str, row: Mapping[str, Any], field: str) -> str:
    try:
        stream = zlib.decompressobj()
        data = stream.decompress(base64.b64decode(content, validate=True), MAX_BYTES)
        if not stream.eof:
            raise ValueError(f"cut off, or more than {MAX_BYTES} bytes")
        return string_of_pickle(data)
    except (binascii.Error, zlib.error, ValueError) as error:
        raise DataError(f"{_name(row)}: field {field}: not JSON, nor a packed string: {error}") from None


def _json(text: str, row: Mapping[str, Any], field: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise DataError(f"{_name(row)}: field {field}: not JSON: {error}") from None


def _name(row: Mapping[str, Any]) -> str:
    return f"LiveCodeBench problem {row.get('question_id', '?')}"
