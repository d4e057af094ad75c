"""Loads a candidate's program; as a command, runs it as a whole on standard input.

    program.py SPEC     SPEC is a JSON file: {"variants": [source, ...], "prelude": bool}

Ends with 120 for a program that does not compile, 121 for one that raises, 122 for one out of memory, else 0: what the
program prints is compared elsewhere, and nothing that it says about itself counts.
"""

import contextlib
import json
import os
import resource
import sys
import traceback
from types import ModuleType
from typing import Any

SYNTAX_ERROR, EXCEPTION, OUT_OF_MEMORY = 120, 121, 122
RECURSION_LIMIT = 50_000
# Recursion through C, as with functools.lru_cache, needs more than the usual 8 MiB of stack. The kernel keeps at least
# 128 MiB below the main thread's stack free.
_STACK_BYTES = 120 << 20

# What LiveCodeBench lets solutions use without an import: the modules' names, and all that they export.
_MODULES = ["string", "re", "datetime", "collections", "heapq", "bisect", "copy", "math", "random", "statistics"]
_MODULES += ["itertools", "functools", "operator", "io", "sys", "json"]


def read_spec(path: str) -> "dict[str, Any]":
    """Return the specification of a program."""
    with open(path, encoding="utf-8", errors="surrogatepass") as file:
        return dict(json.load(file))


def load(spec: "dict[str, Any]", name: str) -> "tuple[Any, ModuleType]":
    """Return the code of the first variant that compiles, and the module to run it in, whose `__name__` is `name`.

    Raises:
        SyntaxError: the first variant's, when none compiles; ValueError, MemoryError, RecursionError likewise.
    """
    path = os.path.abspath("solution.py")
    first: BaseException | None = None
    for source in spec["variants"]:
        try:
            code = compile(source, path, "exec")
        except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
            first = first or error
            continue
        with open(path, "w", encoding="utf-8", errors="surrogatepass") as file:
            file.write(source)
        module = ModuleType(name)
        module.__file__ = path
        sys.modules[name] = module
        if spec.get("prelude"):
            add_prelude(module)
        return code, module
    assert first is not None
    raise first


def add_prelude(module: ModuleType) -> None:
    """Import into a module what solutions use without importing it, and let it recurse deeply."""
    _, hard = resource.getrlimit(resource.RLIMIT_STACK)
    resource.setrlimit(resource.RLIMIT_STACK, (_STACK_BYTES if hard < 0 else min(_STACK_BYTES, hard), hard))
    sys.setrecursionlimit(RECURSION_LIMIT)
    lines = [f"from {name} import *" for name in [*_MODULES, "builtins", "typing"]]
    exec("\n".join([*lines, *(f"import {name}" for name in _MODULES)]), module.__dict__)


def main() -> None:
    """Run a program on standard input."""
    try:
        code, module = load(read_spec(sys.argv[1]), "__main__")
    except Exception:
        traceback.print_exc(limit=0)
        sys.exit(SYNTAX_ERROR)
    status = 0
    try:
        exec(code, module.__dict__)
    except SystemExit as error:
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
    except MemoryError:
        status = OUT_OF_MEMORY
    except BaseException:
        status = EXCEPTION
        traceback.print_exc(limit=-4)
    # The program may have closed or replaced it.
    with contextlib.suppress(Exception):
        sys.stdout.flush()
    sys.exit(status)
