"""How every program parses its command line and reports an error.

Programs describe their options as frozen keyword-only dataclasses whose field docstrings become `--help`;
`tyro` does the parsing, so an unknown option or a value of the wrong type is an error by construction.
"""

import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

import tyro

from megatron_sft.errors import Interrupted, UserError

ConfigT = TypeVar("ConfigT")


def run(
    config_type: type[ConfigT], program: Callable[[ConfigT], None], *, prog: str, argv: Sequence[str] | None = None
) -> int:
    """Parse `argv` into `config_type`, call `program` with it, and return the exit status.

    Returns 0 when `program` returned, 2 for a `UserError` (its message goes to stderr), 130 after Ctrl-C, 143 when it
    stopped in good order after SIGTERM.
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
    except Interrupted as interruption:
        print(f"{prog}: {interruption}", file=sys.stderr, flush=True)
        return 143
    except KeyboardInterrupt:
        print(f"{prog}: interrupted", file=sys.stderr, flush=True)
        return 130
    return 0


def parse(config_type: type[ConfigT], *, prog: str, argv: Sequence[str] | None = None) -> ConfigT:
    """Parse the command line into a config; what its `__post_init__` refuses, tyro shows and ends with status 2."""
    return tyro.cli(
        config_type,
        prog=prog,
        args=argv,
        config=(tyro.conf.OmitSubcommandPrefixes, tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
    )
