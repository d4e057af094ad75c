"""How outputs and values of generated programs are compared, and how values travel between processes."""

from typing import Any

import pytest

from evals.graders.code_compare import difference, same_value
from evals.graders.harness.wire import Opaque, WireError, decode, encode, from_line, to_line


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
