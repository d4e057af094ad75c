"""YAML files as names, nodes and lines.

Only PyYAML's composer is used: it gives the text of each value and its place in the file, and makes no objects, so that
a recipe cannot run code.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from megatron_sft.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Place:
    """A line of a file, counted from 1."""

    file: str
    line: int

    def __str__(self) -> str:
        """As editors and compilers write it."""
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """The value of one option as it stands in a file, not yet of the option's type."""

    node: yaml.Node
    place: Place

    @property
    def text(self) -> str:
        """The value for people to read: a scalar's own text, a list's in brackets."""
        return text_of(self.node)


def text_of(node: yaml.Node) -> str:
    """A node's own text; lists in brackets, mappings in braces, what is in them not looked into twice."""
    if isinstance(node, yaml.ScalarNode):
        return str(node.value)
    items = [item.value if isinstance(item, yaml.ScalarNode) else "..." for item in node.value]
    return f"[{', '.join(items)}]" if isinstance(node, yaml.SequenceNode) else "{...}"


def read_document(path: Path, *, shown_as: str) -> yaml.Node | None:
    """The only document of a YAML file; None when it holds nothing.

    Raises:
        ConfigError: when it cannot be read or is not YAML, with file and line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{shown_as}: cannot be read: {error}") from error
    try:
        document = _compose(text, shown_as)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{shown_as}:{mark.line + 1}" if mark else shown_as
        raise ConfigError(f"{where}: not YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{shown_as}: not YAML: {error}") from error
    return document


def _compose(text: str, shown_as: str) -> yaml.Node | None:
    loader = yaml.SafeLoader(text)
    loader.name = shown_as
    try:
        document: yaml.Node | None = loader.get_single_node()
    finally:
        loader.dispose()
    return document


def place_of(node: yaml.Node, *, shown_as: str) -> Place:
    """Where a node begins."""
    # A part of the tree may come from another file.
    return Place(file=node.start_mark.name or shown_as, line=node.start_mark.line + 1)


def read_entries(path: Path, *, shown_as: str) -> dict[str, Entry]:
    """The entries of a file that holds one mapping, by name; hyphens in names count as underscores.

    Raises:
        ConfigError: when the file is not one mapping of names to values, or gives a name twice.
    """
    document = read_document(path, shown_as=shown_as)
    if not isinstance(document, yaml.MappingNode):
        found = "nothing" if document is None else text_of(document)[:60]
        raise ConfigError(f"{shown_as}: expected lines of the form `name: value`, found {found}")
    return mapping_entries(document, shown_as=shown_as)


def mapping_entries(mapping: yaml.MappingNode, *, shown_as: str) -> dict[str, Entry]:
    """What `read_entries` says, of one mapping."""
    entries: dict[str, Entry] = {}
    for key, value in mapping.value:
        place = place_of(key, shown_as=shown_as)
        if not isinstance(key, yaml.ScalarNode):
            raise ConfigError(f"{place}: {text_of(key)} cannot be the name of an option")
        name = key.value.replace("-", "_")
        if name in entries:
            raise ConfigError(
                f"{place}: {key.value}: {text_of(value)}: given before with {_text_and_line(entries, name)}; remove one"
            )
        entries[name] = Entry(node=value, place=place)
    return entries


def _text_and_line(entries: Mapping[str, Entry], name: str) -> str:
    return f"{entries[name].text} in line {entries[name].place.line}"
