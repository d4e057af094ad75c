"""Options of a program from its defaults, a recipe and the command line, and where each value came from.

The command line wins over the recipe, the recipe over its base, the base over the defaults.
"""

import dataclasses
import inspect
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import tyro

from megatron_sft import cli
from megatron_sft.errors import ConfigError
from megatron_sft.recipes import recipe
from megatron_sft.recipes.resolved import Origin, Resolved
from megatron_sft.recipes.values import option_types, read_option

ConfigT = TypeVar("ConfigT")
_HELP = (
    "--recipe FILE|NAME: take options from a YAML file, or from a packaged recipe: paper:1 to paper:33 (also by name, "
    "and with a GPU layout as in paper:1@8x80GB) or paper_base. Options given here win over it. Relative paths in "
    "it are those of the working directory."
)


def run(
    config_type: type[ConfigT],
    program: Callable[[Resolved[ConfigT]], None],
    *,
    prog: str,
    argv: Sequence[str] | None = None,
) -> int:
    """`cli.run` for a program that takes recipes: the resolved options are printed by the process of rank 0."""

    def resolve_and_call() -> None:
        resolved = resolve(config_type, prog=prog, argv=argv)
        # torchrun says the rank; there is no process group yet.
        if os.environ.get("RANK", "0") == "0":
            print("\n".join(resolved.lines()), flush=True)
        program(resolved)

    return cli.exit_status(resolve_and_call, prog=prog)


def resolve(config_type: type[ConfigT], *, prog: str, argv: Sequence[str] | None = None) -> Resolved[ConfigT]:
    """Options from the command line and the recipe that it names.

    Args:
        config_type: a frozen dataclass of options without nested ones; its `__post_init__` sees the final values.
        prog: the program's name in messages.
        argv: by default the process's own.

    Raises:
        ConfigError: for a recipe that is missing or wrong, for options that the recipe leaves to the command line and
            that are not there, and from `__post_init__`, then with the origins of the options that it names.
        SystemExit: from tyro, for a command line that is wrong, and for --help.
    """
    name, words = _split_recipe(sys.argv[1:] if argv is None else argv)
    known = option_types(config_type)
    chosen = recipe.load(name) if name is not None else None
    entries = chosen.entries if chosen else {}
    values = {option: read_option(option, entry, known) for option, entry in entries.items()}
    given = _given_options(words, known)
    if chosen and not {"-h", "--help"} & set(words):
        _check_needs(chosen, {*values, *given})
    origins = {option: Origin(on_command_line=option in given, entry=entries.get(option)) for option in known}
    try:
        options = _parse(config_type, _defaults(config_type, values), prog=prog, words=words)
    except ConfigError as error:
        raise ConfigError(f"{error}{_origins_of_named(str(error), origins)}") from error
    return Resolved(options=options, origins=origins, recipe=name, notes=chosen.notes if chosen else ())


def _parse(config_type: type[ConfigT], defaults: ConfigT, *, prog: str, words: Sequence[str]) -> ConfigT:
    """The command line over `defaults`. Every bool has --NAME and --no-NAME, since a recipe may have set it."""
    # tyro reports a ValueError of the constructor, such as a ConfigError, as a word that it could not parse. So it
    # constructs without the checks, which run here afterwards.
    unchecked = type(config_type.__name__, (config_type,), {"__post_init__": lambda self: None})
    parsed = tyro.cli(
        unchecked,
        prog=prog,
        description=f"{inspect.getdoc(config_type)}\n\n{_HELP}",
        args=words,
        default=defaults,
        config=(tyro.conf.OmitSubcommandPrefixes, tyro.conf.OmitArgPrefixes),
    )
    return config_type(**{name: getattr(parsed, name) for name in option_types(config_type)})


def _defaults(config_type: type[ConfigT], values: dict[str, Any]) -> ConfigT:
    """An instance that tells tyro the defaults: the recipe's values, then the class's, and which options are required.

    It is made without `__init__`, since its values are checked only together with those of the command line.
    """
    instance = object.__new__(config_type)
    for field in dataclasses.fields(config_type):  # type: ignore[arg-type]
        if field.name in values:
            value = values[field.name]
        elif field.default is not dataclasses.MISSING:
            value = field.default
        elif field.default_factory is not dataclasses.MISSING:
            value = field.default_factory()
        else:
            value = tyro.MISSING
        object.__setattr__(instance, field.name, value)
    return instance


def _split_recipe(words: Sequence[str]) -> tuple[str | None, list[str]]:
    """The value of --recipe, and the words without it.

    Raises:
        ConfigError: when it has no value, or is given twice.
    """
    found, others, remaining = [], [], iter(words)
    for word in remaining:
        option, equals, value = word.partition("=")
        if option != "--recipe":
            others.append(word)
        elif value := value if equals else next(remaining, ""):
            found.append(value)
        else:
            raise ConfigError("--recipe: name a YAML file or a packaged recipe; tools/recipes lists those")
    if len(found) > 1:
        raise ConfigError(
            f"--recipe is given twice ({', '.join(found)}): give one; a recipe builds on another by its `base`"
        )
    return found[0] if found else None, others


def _given_options(words: Sequence[str], known: dict[str, Any]) -> set[str]:
    """The options that the command line names, as --name, --name=value or --no-name."""
    names = {word[2:].partition("=")[0].replace("-", "_") for word in words if word.startswith("--")}
    return {option for option in known if option in names or f"no_{option}" in names}


def _check_needs(chosen: recipe.Recipe, present: set[str]) -> None:
    missing = [need for need in chosen.needs if present.isdisjoint(need.options)]
    if missing:
        lines = [f"\n  --{need.options[0].replace('_', '-')}: {need.text}" for need in missing]
        raise ConfigError(f"--recipe {chosen.name} needs what only you can name:{''.join(lines)}")


def _origins_of_named(message: str, origins: dict[str, Origin]) -> str:
    """Where the options came from that a message names; nothing when they all come from the command line."""
    named = [name.replace("-", "_") for name in re.findall(r"--([a-z0-9][a-z0-9-]*)", message)]
    found = {name: origins[name] for name in named if name in origins}
    if all(origin.entry is None for origin in found.values()):
        return ""
    texts = [f"--{name.replace('_', '-')} from {origin}" for name, origin in found.items()]
    return f" ({'; '.join(texts)})"
