"""YAML values as the types of a dataclass's fields."""

import dataclasses
import difflib
import re
import types
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

from megatron_sft.errors import ConfigError
from megatron_sft.recipes.yaml_nodes import Entry, place_of, text_of

_TAG = "tag:yaml.org,2002:"
_INTEGER = re.compile(r"[-+]?(0|[1-9]\d*(_\d+)*)")
_NUMBER = re.compile(r"[-+]?(\d+(_\d+)*\.?\d*|\.\d+)([eE][-+]?\d+)?|[-+]?\.inf")


def option_types(config_type: type) -> dict[str, Any]:
    """The options that a dataclass has, with their types."""
    hints = get_type_hints(config_type)
    return {field.name: hints[field.name] for field in dataclasses.fields(config_type) if field.init}


def read_option(name: str, entry: Entry, known: dict[str, Any]) -> Any:
    """An entry's value in the type of the option it names.

    Raises:
        ConfigError: when there is no such option, or its type does not take the value.
    """
    if name not in known:
        raise ConfigError(
            f"{entry.place}: {name}: {entry.text}: there is no option {name}{nearest(name, [*known, 'base'])}"
        )
    try:
        return _convert(entry.node, known[name])
    except _Unfit as unfit:
        raise ConfigError(f"{entry.place}: {name}: {entry.text}: {unfit}") from None


def nearest(word: str, choices: Iterable[str]) -> str:
    """A clause that names the choice most like a word; empty when none is."""
    found = difflib.get_close_matches(word, list(choices), n=1)
    return f"; the nearest name is {found[0]}" if found else ""


def read_plain(node: yaml.Node) -> Any:
    """A node's value where no type is asked for: null, true, false, numbers (5e-5 too), texts, lists, mappings.

    Raises:
        ConfigError: for a tag that would make Python objects, and a mapping whose names are not texts.
    """
    if isinstance(node, yaml.MappingNode):
        return {_name(key): read_plain(value) for key, value in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [read_plain(item) for item in node.value]
    if node.tag == f"{_TAG}null":
        return None
    for kind in (bool, int, float, str):
        try:
            return _convert(node, kind)
        except _Unfit as unfit:
            reason = str(unfit)
    raise ConfigError(f"{place_of(node, shown_as='')}: {text_of(node)}: {reason}")


def _name(key: yaml.Node) -> str:
    if not isinstance(key, yaml.ScalarNode):
        raise ConfigError(f"{place_of(key, shown_as='')}: {text_of(key)}: expected a name")
    return str(key.value)


class _Unfit(Exception):
    """Why a value does not fit a type."""


def _convert(node: yaml.Node, kind: Any) -> Any:
    """A node's value as a type that options may have: scalars, Path, Literal, Optional, lists of scalars."""
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return _convert_union(node, get_args(kind))
    if origin is Literal:
        return _convert_choice(node, get_args(kind))
    if origin in (tuple, list):
        if not isinstance(node, yaml.SequenceNode):
            raise _Unfit("expected a list, such as [a, b]")
        return origin(_convert(item, get_args(kind)[0]) for item in node.value)
    if kind is str and isinstance(node, yaml.SequenceNode):
        # --save-iters and the like: one text on the command line, a list in YAML.
        return ",".join(_convert(item, str) for item in node.value)
    if kind is bool:
        return _convert_bool(node)
    converters: dict[Any, Callable[[yaml.Node], Any]]
    converters = {int: _convert_int, float: _convert_float, str: _text, Path: lambda node: Path(_text(node))}
    assert kind in converters, f"no recipe can give a value of type {kind}"
    return converters[kind](node)


def _convert_union(node: yaml.Node, kinds: tuple[Any, ...]) -> Any:
    if types.NoneType in kinds and node.tag == f"{_TAG}null":
        return None
    reasons = []
    for kind in kinds:
        if kind is not types.NoneType:
            try:
                return _convert(node, kind)
            except _Unfit as unfit:
                reasons.append(str(unfit))
    raise _Unfit("; or ".join(reasons))


def _convert_choice(node: yaml.Node, choices: tuple[Any, ...]) -> Any:
    by_text = {str(choice): choice for choice in choices}
    text = node.value if isinstance(node, yaml.ScalarNode) else text_of(node)
    if text not in by_text:
        raise _Unfit(f"expected one of {', '.join(by_text)}{nearest(text, by_text)}")
    return by_text[text]


def _convert_bool(node: yaml.Node) -> bool:
    if not _is_plain(node) or node.value not in ("true", "false"):
        raise _Unfit("expected true or false")
    return bool(node.value == "true")


def _convert_int(node: yaml.Node) -> int:
    if not _is_plain(node) or not _INTEGER.fullmatch(node.value):
        raise _Unfit("expected a whole number, such as 10")
    return int(node.value)


def _convert_float(node: yaml.Node) -> float:
    # YAML 1.1, which PyYAML reads, takes 5e-5 for text, as it has no point; here what the option wants decides.
    if not _is_plain(node) or not _NUMBER.fullmatch(node.value):
        raise _Unfit("expected a number, such as 0.1 or 5e-5")
    return float(node.value.replace(".inf", "inf"))


def _text(node: yaml.Node) -> str:
    if not isinstance(node, yaml.ScalarNode):
        raise _Unfit("expected one text")
    if node.tag == f"{_TAG}null":
        raise _Unfit('there is no value; an empty text is ""')
    if node.tag == f"{_TAG}bool":
        raise _Unfit("expected a text; put it in quotation marks if it is one")
    if not node.tag.startswith(_TAG) or "/" in node.tag.removeprefix(_TAG):
        raise _Unfit(f"the tag {node.tag} is not allowed")
    return str(node.value)


def _is_plain(node: yaml.Node) -> bool:
    """Whether a node is a scalar without quotation marks (a quoted number is a text)."""
    return isinstance(node, yaml.ScalarNode) and node.style is None
