"""How every program parses its command line and reports an error.

Programs describe their options as frozen keyword-only dataclasses whose field docstrings become `--help`;
`tyro` does the parsing, so an unknown option or a value of the wrong type is an error by construction.
"""

import dataclasses
import inspect
import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

import tyro

from megatron_sft.errors import UserError

ConfigT = TypeVar("ConfigT")


def run(
    config_type: type[ConfigT], program: Callable[[ConfigT], None], *, prog: str, argv: Sequence[str] | None = None
) -> int:
    """Parse `argv` into `config_type`, call `program` with it, and return the exit status.

    Returns 0 when `program` returned, 2 for a `UserError` (its message goes to stderr), 130 after Ctrl-C.
    Any other exception is a defect and keeps its traceback. Bad options end in tyro's own `SystemExit(2)`.
    """
    return exit_status(lambda: program(parse(config_type, prog=prog, argv=argv)), prog=prog)


def exit_status(action: Callable[[], None], *, prog: str) -> int:
    """Call `action` and return the exit status as `run` does."""
    try:
        action()
    except UserError as error:
        print(f"{prog}: error: {error}", file=sys.stderr, flush=True)
        return 2
    except KeyboardInterrupt:
        print(f"{prog}: interrupted", file=sys.stderr, flush=True)
        return 130
    return 0


def parse(
    config_type: type[ConfigT],
    *,
    prog: str,
    argv: Sequence[str] | None = None,
    defaults: ConfigT | None = None,
    epilogue: str = "",
) -> ConfigT:
    """Parse the command line into a config; a `UserError` raised by its `__post_init__` passes through.

    Args:
        config_type: a dataclass of options.
        prog: the program's name in messages.
        argv: by default the process's own.
        defaults: takes the place of the class's defaults; `tyro.MISSING` in a field makes it required. Every bool then
            has --NAME and --no-NAME, as either may be the default.
        epilogue: stands below the class's docstring in --help.
    """
    pairs = () if defaults is not None else (tyro.conf.FlagCreatePairsOff,)
    # tyro takes a ValueError of the constructor, which a ConfigError is, for a word it could not parse, and words the
    # message accordingly. So it constructs without the checks, which then run here.
    unchecked = type(config_type.__name__, (config_type,), {"__post_init__": lambda self: None})
    parsed = tyro.cli(
        unchecked,
        prog=prog,
        description="\n\n".join(filter(None, (inspect.getdoc(config_type), epilogue))),
        args=argv,
        default=tyro.MISSING_NONPROP if defaults is None else defaults,
        config=(tyro.conf.OmitSubcommandPrefixes, tyro.conf.OmitArgPrefixes, *pairs),
    )
    names = [field.name for field in dataclasses.fields(config_type) if field.init]  # type: ignore[arg-type]
    return config_type(**{name: getattr(parsed, name) for name in names})
