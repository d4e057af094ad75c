r"""The text inside a box, without what only sets type."""

import re

_WRAPPER = re.compile(r"\\(?:text|textbf|textit|textrm|texttt|mathrm|mathbf|mathsf|boldsymbol|operatorname)\s*\{")
_SPACES = re.compile(r"\\[,;:! ]|~|\\quad|\\qquad")


def plain_text(boxed: str) -> str:
    r"""Return the content of a box as plain text: `\text{}` and its like opened, `$`, `**`, a final full stop gone."""
    text = boxed
    # Each pass opens one wrapper that spans the whole text or stands first in it; a box nests only a few.
    for _ in range(10):
        text = _strip(text)
        opened = _open_wrapper(text)
        if opened is None:
            break
        text = opened
    return _strip(_SPACES.sub(" ", text))


def _open_wrapper(text: str) -> str | None:
    match = _WRAPPER.match(text)
    if match is None:
        return text[1:-1] if _is_group(text) else None
    depth = 1
    for position in range(match.end(), len(text)):
        depth += {"{": 1, "}": -1}.get(text[position], 0)
        if depth == 0:
            return text[match.end() : position] + text[position + 1 :]
    return None


def _is_group(text: str) -> bool:
    """Whether one pair of braces encloses the whole text."""
    if not (text.startswith("{") and text.endswith("}")):
        return False
    depth = 0
    for position, character in enumerate(text):
        depth += {"{": 1, "}": -1}.get(character, 0)
        if depth == 0:
            return position == len(text) - 1
    return False


def _strip(text: str) -> str:
    text = text.strip()
    for mark in ("$", "**"):
        if len(text) > 2 * len(mark) and text.startswith(mark) and text.endswith(mark):
            text = text[len(mark) : -len(mark)].strip()
    return text.removesuffix(".").strip()
