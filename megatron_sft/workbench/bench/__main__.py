"""`tools/bench`: what data layer, conversion and trainer cost, beside their peers and what the machine can do at most;
and how often the analysis of a study is right.

Each subcommand is a module of this package with its own options, imported only when it is asked for: they need
different optional packages.
"""

import importlib
import sys
from collections.abc import Sequence

SUBCOMMANDS = {
    "data": "JSON lines to shards: tools/build_shards beside the other ways to do it",
    "loader": "opening millions of samples and building rows from them",
    "limits": "what this machine can do at most: copying, parsing, hashing, writing",
    "study": "whether a study's analysis finds what was planted in synthetic ones",
    "published": "what that analysis says of the numbers that the paper published",
    "packing": "samples into rows of equal length",
    "convert": "a model to a checkpoint and back, beside copying its files",
    "verification": "checks of mathematical answers",
    "train": "this trainer beside transformers, padded and packed, on the same samples",
    "train-profile": "what the device does in one iteration of this trainer, and the least time that it could take",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the subcommand that comes first in `argv` with the rest of it; returns the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments and arguments[0] in SUBCOMMANDS:
        module = importlib.import_module(f"megatron_sft.workbench.bench.{arguments[0].replace('-', '_')}")
        status: int = module.main(arguments[1:])
        return status
    if arguments in (["--help"], ["-h"]):
        print(_usage())
        return 0
    given = f"unknown subcommand {arguments[0]!r}" if arguments else "no subcommand"
    print(f"bench: error: {given}\n{_usage()}", file=sys.stderr)
    return 2


def _usage() -> str:
    lines = [f"  {name:14s}{summary}" for name, summary in SUBCOMMANDS.items()]
    return "\n".join(["usage: bench SUBCOMMAND [options]; each one has --help", *lines])


if __name__ == "__main__":
    sys.exit(main())
