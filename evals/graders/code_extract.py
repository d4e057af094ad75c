"""Where in a response the program is, and the whole programs that it may stand for.

Nothing is parsed here: text of a model meets Python's compiler in the sandbox only. Where several readings are
possible, `variants` lists them in order and the first that compiles is the program.
"""

import re
import textwrap

MAX_PROGRAM_CHARS = 1 << 20

_OPENING = re.compile(r"```[ \t]*(\w*)[^\n`]*\n")
_CLOSING = re.compile(r"^[ \t]*```[ \t]*$", re.MULTILINE)
_PYTHON = ("python", "py", "python3")
_MAX_INDENTATION = 100


def last_python_fence(text: str) -> str | None:
    """Return the contents of the last closed ```python block; None without one.

    Goes backwards through the text and reads no part of it twice, however many fences it has.
    """
    bound = end = len(text)
    while (at := text.rfind("```", 0, end)) >= 0:
        end = at
        opening = _OPENING.match(text, at)
        if opening is None or opening[1].lower() not in _PYTHON or not _begins_line(text, at):
            continue
        closing = _CLOSING.search(text, opening.end(), bound)
        if closing is not None:
            return textwrap.dedent(text[opening.end() : closing.start()])
        bound = at
    return None


def _begins_line(text: str, at: int) -> bool:
    before = text[max(0, at - _MAX_INDENTATION) : at]
    indentation = before.rpartition("\n")[2]
    return not indentation.strip() and ("\n" in before or at <= _MAX_INDENTATION)


def function_code(text: str) -> str | None:
    """Return the code in a response to a HumanEval-style prompt: the last ```python block, or a text without fences."""
    code = last_python_fence(text)
    if code is None and "```" not in text:
        code = text.strip("\n")
    return code


def function_variants(code: str, prompt: str, entry_point: str) -> list[str]:
    """Return the programs that some code may stand for, the likeliest first.

    Code that defines the entry point is a program, to which the prompt's imports and helpers are added; other code
    continues the prompt.
    """
    definition = re.compile(
        rf"^(?:async[ \t]+)?def[ \t]+{re.escape(entry_point)}\b|^{re.escape(entry_point)}[ \t]*=", re.M
    )
    if definition.search(code):
        head = definition.search(prompt)
        preamble = prompt[: head.start()] if head else ""
        return [f"{preamble}\n{code}\n", f"{code}\n"]
    lines = code.splitlines(keepends=True)
    # A body that lost the indentation of its first line, or of all; one with remarks or further code behind it.
    bodies = [code, "    " + code, textwrap.indent(code, "    "), _indented_head(lines)]
    return [f"{prompt}{body}\n" for body in bodies]


def _indented_head(lines: list[str]) -> str:
    for index, line in enumerate(lines):
        if index and line.strip() and not line[0].isspace():
            return "".join(lines[:index])
    return "".join(lines)
