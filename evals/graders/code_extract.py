"""Where in a response the program is, and the whole programs that it may stand for.

Nothing is parsed here: text of a model meets Python's compiler in the sandbox only. Where several readings are
possible, `variants` lists them in order and the first that compiles is the program.
"""

import re
import textwrap

_OPENING = re.compile(r"^[ \t]*```[ \t]*(\w*)[^\n`]*\n", re.MULTILINE)
_CLOSING = re.compile(r"^[ \t]*```[ \t]*$", re.MULTILINE)
_PYTHON = ("python", "py", "python3")


def last_python_fence(text: str) -> str | None:
    """Return the contents of the last closed ```python block; None without one."""
    for opening in reversed([match for match in _OPENING.finditer(text) if match[1].lower() in _PYTHON]):
        closing = _CLOSING.search(text, opening.end())
        if closing is not None:
            return textwrap.dedent(text[opening.end() : closing.start()])
    return None


def function_variants(text: str, prompt: str, entry_point: str) -> list[str]:
    """Return the programs that a response to a HumanEval-style prompt may stand for; empty where it holds no code.

    The code is the last ```python block, or the whole text where there is no fence at all. Code that defines the entry
    point is a program, to which the prompt's imports and helpers are added; other code continues the prompt.
    """
    code = last_python_fence(text)
    if code is None:
        code = "" if "```" in text else text.strip("\n")
    if not code.strip():
        return []
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
