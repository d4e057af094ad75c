"""YAML mappings as dataclasses whose fields may be dataclasses again, with file and line in every error."""

import dataclasses
import types
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from megatron_sft.errors import ConfigError
from megatron_sft.recipes.values import nearest, read_option, read_plain
from megatron_sft.recipes.yaml_nodes import Entry, mapping_entries, place_of, text_of

SpecT = TypeVar("SpecT")


def read_spec(
    kind: type[SpecT], node: yaml.Node, shown_as: str, *, what: str, given: dict[str, Any] | None = None
) -> SpecT:
    """Return a mapping as a dataclass.

    Fields may be what options may be (see `values`), dataclasses, and dicts by name or tuples of either; Any, for any
    value (see `read_plain`); Entry, for one that is not read yet.

    Args:
        kind: the dataclass.
        node: the mapping.
        shown_as: the file in messages.
        what: what the file is, as in `a recipe`.
        given: fields that do not stand in the file.

    Raises:
        ConfigError: for a key that there is not, one that is missing, or a value of another type.
    """
    place = place_of(node, shown_as=shown_as)
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError(f"{place}: {text_of(node)[:60]}: expected lines of the form `name: value`")
    hints = get_type_hints(kind)
    fields = {item.name: item for item in dataclasses.fields(kind) if item.name not in (given or {})}  # type: ignore[arg-type]
    known = {name: hints[name] for name in fields}
    values = dict(given or {})
    for name, entry in mapping_entries(node, shown_as=shown_as).items():
        if name not in known:
            remedy = nearest(name, known) or f"; known are {', '.join(known)}"
            raise ConfigError(f"{entry.place}: {name}: {entry.text}: {what} has no key {name} here{remedy}")
        values[name] = _value(name, entry, known[name], shown_as, what)
    needed = [
        name
        for name, item in fields.items()
        if item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING and name not in values
    ]
    if needed:
        raise ConfigError(f"{place}: {needed[0]} is missing here; known are {', '.join(known)}")
    return kind(**values)


def _value(name: str, entry: Entry, kind: Any, shown_as: str, what: str) -> Any:
    if kind is Any:
        return read_plain(entry.node)
    if kind is Entry:
        return entry
    spec = next((one for one in _choices(kind) if _is_spec(one)), None)
    if spec is not None and not (str in _choices(kind) and isinstance(entry.node, yaml.ScalarNode)):
        return read_spec(spec, entry.node, shown_as, what=what)
    mapping = next((one for one in _choices(kind) if get_origin(one) is dict), None)
    if mapping is not None:
        kind_of_values = get_args(mapping)[1]
        return {
            key: _value(
                key, Entry(node=value, place=place_of(value, shown_as=shown_as)), kind_of_values, shown_as, what
            )
            for key, value in _pairs(entry, shown_as)
        }
    if get_origin(kind) is tuple and _is_spec(get_args(kind)[0]):
        if not isinstance(entry.node, yaml.SequenceNode):
            raise ConfigError(f"{entry.place}: {name}: {entry.text}: expected a list")
        return tuple(read_spec(get_args(kind)[0], item, shown_as, what=what) for item in entry.node.value)
    return read_option(name, entry, {name: kind if spec is None else str})


def _choices(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)


def _is_spec(kind: Any) -> bool:
    return isinstance(kind, type) and dataclasses.is_dataclass(kind)


def _pairs(entry: Entry, shown_as: str) -> list[tuple[str, yaml.Node]]:
    """Return names as they stand, which `mapping_entries` would change, with their values."""
    if not isinstance(entry.node, yaml.MappingNode):
        raise ConfigError(f"{entry.place}: {entry.text}: expected lines of the form `name: value`")
    pairs: list[tuple[str, yaml.Node]] = []
    for key, value in entry.node.value:
        if not isinstance(key, yaml.ScalarNode) or key.value in [name for name, _ in pairs]:
            raise ConfigError(f"{place_of(key, shown_as=shown_as)}: {text_of(key)}: expected a name, each once")
        pairs.append((key.value, value))
    return pairs
