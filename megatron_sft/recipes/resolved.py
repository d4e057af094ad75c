"""Options whose origins are known: shown at start, and saved as a recipe that repeats the run."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import yaml

from megatron_sft.errors import ConfigError
from megatron_sft.files import write_text
from megatron_sft.recipes.values import option_types, read_option
from megatron_sft.recipes.yaml_nodes import Entry, read_entries

ConfigT = TypeVar("ConfigT")
FILE_NAME = "resolved_config.yaml"


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a value came from."""

    on_command_line: bool
    entry: Entry | None
    """What the recipe says, also where the command line replaced it."""

    @property
    def is_default(self) -> bool:
        """Whether nobody gave the value."""
        return not self.on_command_line and self.entry is None

    def __str__(self) -> str:
        if self.on_command_line:
            replaced = f", instead of {self.entry.text} in {self.entry.place}" if self.entry else ""
            return f"command line{replaced}"
        return f"recipe {self.entry.place}" if self.entry else "default"


@dataclass(frozen=True, kw_only=True)
class Resolved(Generic[ConfigT]):
    """The options of a run."""

    options: ConfigT
    origins: dict[str, Origin]
    """By option, in the order of the dataclass."""
    recipe: str | None
    """As --recipe named it."""
    notes: tuple[str, ...] = ()
    """What the recipe has to say."""

    def lines(self) -> list[str]:
        """Every value that somebody gave, with its origin, and the defaults in one line."""
        given = {name: origin for name, origin in self.origins.items() if not origin.is_default}
        values = {name: _plain_text(getattr(self.options, name)) for name in self.origins}
        wide = [max(map(len, column), default=0) for column in (given, [values[name] for name in given])]
        rows = [f"  {name:<{wide[0]}}  {values[name]:<{min(wide[1], 60)}}  {origin}" for name, origin in given.items()]
        defaults = ", ".join(f"{name} {values[name]}" for name in self.origins if name not in given)
        heading = f"configuration: recipe {self.recipe}" if self.recipe else "configuration: no recipe"
        return [heading, *(f"  {note}" for note in self.notes), *rows, f"  defaults: {defaults}"]

    def save(self, folder: Path) -> None:
        """Write FOLDER/resolved_config.yaml, which `--recipe` takes; one with the same values is left as it is.

        So a run that goes on keeps the origins of its first start, also when it was started with that very file.
        """
        path = folder / FILE_NAME
        if not self._same_as(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, self.as_yaml())

    def as_yaml(self) -> str:
        """Every option, also those at their default, as a recipe with the origins as comments."""
        names = [field.name for field in dataclasses.fields(self.options)]  # type: ignore[arg-type]
        heading = [
            _comment(f"All options of a run{f' of recipe {self.recipe}' if self.recipe else ''}, with their origins."),
            _comment(f"Relative paths are those of the folder it was started in: {Path.cwd()}"),
        ]
        lines = [
            f"{name}: {_yaml_text(getattr(self.options, name))}  {_comment(str(self.origins[name]))}" for name in names
        ]
        return "\n".join([*heading, *lines]) + "\n"

    def _same_as(self, path: Path) -> bool:
        if not path.is_file():
            return False
        known = option_types(type(self.options))
        try:
            entries = read_entries(path, shown_as=str(path))
            values = {name: read_option(name, entry, known) for name, entry in entries.items()}
        except ConfigError:
            # Of another version of the program, or damaged: written anew.
            return False
        return values == {name: getattr(self.options, name) for name in known}


def _plain_text(value: Any) -> str:
    return str(value) if value != "" else '""'


def _comment(text: str) -> str:
    """A comment of one line."""
    return f"# {' '.join(text.split())}"


def _yaml_text(value: Any) -> str:
    """A value as a YAML 1.1 parser reads it back, text always in quotation marks."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_yaml_text, value))}]"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, float):
        text = repr(value)
        # In YAML 1.1 infinity has a point before it, and 5e-05 is text for want of one.
        return text.replace("inf", ".inf") if "." in text or "inf" in text else text.replace("e", ".0e")
    if isinstance(value, int):
        return str(value)
    quoted: str = yaml.safe_dump(str(value), default_style='"', width=1 << 30, allow_unicode=True)
    return quoted.rstrip("\n")
