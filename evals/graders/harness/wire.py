"""Plain values as lines of JSON, between processes that do not trust each other.

What arrives is made of Python's own types and nothing else: no class, and so no `__eq__`, of the sender exists on the
receiver's side. Values of other types arrive as `Opaque`, which equals nothing.

    null, true, false, text, 1.5, 12          themselves
    ["list", [..]] ["tuple", [..]] ["set", [..]] ["frozenset", [..]]
    ["dict", [[key, value], ..]]  ["bytes", hex]  ["complex", [re, im]]
    ["int", hex]                              integers of more than 60 bits
    ["opaque", name of the type]
"""

import json
from typing import Any

LOAD_FAILURES = ("syntax_error", "exception", "memory_limit", "no_entry_point")
"""What a candidate's process may report about itself before the first call. Anything else it says, success above all,
is a broken channel."""

_LARGE = 1 << 60


class Opaque:
    """A value of a type that is not passed on."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, type_name: str) -> None:
        """Remember the type, for messages."""
        self.type_name = type_name

    def __eq__(self, other: object) -> bool:
        """A value that nobody can see equals nothing."""
        return False

    def __repr__(self) -> str:
        """For messages."""
        return f"<{self.type_name}>"


class WireError(Exception):
    """A line that is not what it should be."""


def to_line(message: Any) -> bytes:
    """Return the message, whose values are encoded, as a line."""
    return json.dumps(message).encode("ascii") + b"\n"


def from_line(line: bytes) -> Any:
    """Return the message on a line.

    Raises:
        WireError: for lines that are not JSON, or nested too deeply.
    """
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise WireError(f"not a message: {type(error).__name__}") from None


def encode(value: Any) -> Any:
    """Return a value in the form above. Subclasses lose what they add; cycles and great depth end in `Opaque`."""
    try:
        return _encode(value, 0)
    except RecursionError:
        return ["opaque", type(value).__name__]


def _encode(value: Any, depth: int) -> Any:
    if depth > 200:
        raise RecursionError
    if value is None or value is True or value is False:
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        whole = int.__index__(value)
        return whole if -_LARGE < whole < _LARGE else ["int", hex(whole)]
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, complex):
        return ["complex", [value.real, value.imag]]
    if isinstance(value, (bytes, bytearray)):
        return ["bytes", bytes(value).hex()]
    if isinstance(value, dict):
        return ["dict", [[_encode(key, depth + 1), _encode(item, depth + 1)] for key, item in dict.items(value)]]
    for base in (list, tuple, set, frozenset):
        if isinstance(value, base):
            members: Any = base.__iter__(value)  # type: ignore[arg-type]
            return [base.__name__, [_encode(item, depth + 1) for item in members]]
    # Scalars of numpy, which graders that compare in the same process take for numbers too.
    if type(value).__module__ == "numpy" and hasattr(value, "item") and getattr(value, "shape", None) == ():
        return _encode(value.item(), depth + 1)
    return ["opaque", type(value).__name__]


def decode(form: Any) -> Any:
    """Return the value of a form.

    Raises:
        WireError: for anything that `encode` does not make.
    """
    try:
        return _decode(form)
    except (TypeError, ValueError, KeyError, RecursionError) as error:
        raise WireError(f"not a value: {type(error).__name__}") from None


def _decode(form: Any) -> Any:
    if not isinstance(form, list):
        if isinstance(form, dict):
            raise ValueError
        return form
    kind, content = form
    if kind == "dict":
        return {_decode(key): _decode(value) for key, value in content}
    if kind == "int":
        return int(content, 16)
    if kind == "bytes":
        return bytes.fromhex(content)
    if kind == "complex":
        return complex(float(content[0]), float(content[1]))
    if kind == "opaque":
        return Opaque(str(content)[:100])
    maker = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}[kind]
    return maker(_decode(item) for item in content)
