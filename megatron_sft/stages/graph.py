"""Stages and what they depend on, as data: nothing here runs or reads anything."""

import graphlib
import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from megatron_sft.errors import ConfigError

OUTPUT = "{output}"
"""Stands in commands and outputs for the run's folder."""
LAUNCHER = "{torchrun}"
"""A word of commands: what starts the processes of a training, as whoever runs the stage says."""


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What a stage takes."""

    processes: int = 1
    """Processes that {torchrun} starts on each node."""
    gpus: int = 0
    """GPUs on each node."""
    nodes: int = 1
    hours: float | None = None
    """How long it may take, estimated; None where nobody knows."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One or several programs that make files of files."""

    name: str
    """Also of its mark and its log, so a file name."""
    kind: str
    """What stages are asked for by, such as train."""
    title: str
    """What it does, in a few words."""
    commands: tuple[tuple[str, ...], ...]
    """Programs with their options, run in this order from the repository's root. {output}, {torchrun} and the names of
    `inputs` and `places` in braces are filled in."""
    outputs: tuple[str, ...]
    """Files and folders, as `{output}/...`: there when it is done, removed before it is done afresh. What a program
    keys by itself (answers, traces) need not be among them, and is kept."""
    after: tuple[str, ...] = ()
    """Stages whose outputs it reads."""
    is_tolerant: bool = False
    """Whether it makes do with those of `after` that are done; else all of them must be."""
    inputs: Mapping[str, Path] = field(default_factory=dict)
    """Files and folders from elsewhere, whose content counts and not where they lie, by name."""
    places: Mapping[str, Path] = field(default_factory=dict)
    """Further names for commands, of places whose content does not count as a whole."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What else decides over the outputs: names and values that JSON can hold."""
    resources: Resources = Resources()

    def filled(self, output: Path, launcher: Sequence[str] | None = None) -> list[list[str]]:
        """Return the commands as one would type them.

        Args:
            output: the run's folder.
            launcher: words for {torchrun}; by default torchrun with the stage's processes on this machine.
        """
        local = ("torchrun", "--standalone", "--nproc-per-node", str(self.resources.processes))
        places = {"output": output, **self.inputs, **self.places}
        return [[word for one in words for word in _fill(one, places, launcher or local)] for words in self.commands]

    def output_paths(self, output: Path) -> list[Path]:
        """Return `outputs` below the run's folder."""
        return [Path(path.replace(OUTPUT, str(output))) for path in self.outputs]


class Graph:
    """Stages, each after those that it depends on; otherwise in the order given."""

    def __init__(self, stages: Iterable[Stage]) -> None:
        """Check names and order.

        Raises:
            ConfigError: for a name given twice or not at all, and for circles.
        """
        given: dict[str, Stage] = {}
        for stage in stages:
            if stage.name in given:
                raise ConfigError(f"two stages are called {stage.name} ({given[stage.name].title}; {stage.title})")
            if not stage.name or set(stage.name) & set("/\0") or stage.name.startswith("."):
                raise ConfigError(f"stage {stage.name!r}: cannot be the name of a file")
            given[stage.name] = stage
        for stage in given.values():
            for name in stage.after:
                if name not in given:
                    raise ConfigError(f"stage {stage.name}: comes after {name}, which there is not")
        try:
            graphlib.TopologicalSorter({name: stage.after for name, stage in given.items()}).prepare()
        except graphlib.CycleError as error:
            raise ConfigError(f"stages depend on each other in a circle: {' -> '.join(error.args[1])}") from error
        self._stages = dict(_in_order(given))

    def __iter__(self) -> Iterator[Stage]:
        """Every stage, none before one that it depends on."""
        return iter(self._stages.values())

    def __len__(self) -> int:
        """Number of stages."""
        return len(self._stages)

    def __getitem__(self, name: str) -> Stage:
        """The stage of this name."""
        return self._stages[name]

    def __contains__(self, name: object) -> bool:
        """Whether there is a stage of this name."""
        return name in self._stages

    def ancestors(self, names: Collection[str]) -> set[str]:
        """Return these stages and all that they depend on."""
        found: set[str] = set()
        waiting = list(names)
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                waiting += self._stages[name].after
        return found


def _in_order(given: Mapping[str, Stage]) -> Iterator[tuple[str, Stage]]:
    """Depth first, so that what belongs together stays together."""
    done: set[str] = set()

    def visit(name: str) -> Iterator[tuple[str, Stage]]:
        if name not in done:
            done.add(name)
            for before in given[name].after:
                yield from visit(before)
            yield name, given[name]

    for name in given:
        yield from visit(name)


def _fill(word: str, places: Mapping[str, Path], launcher: Sequence[str]) -> Sequence[str]:
    if word == LAUNCHER:
        return launcher
    for name, path in places.items():
        word = word.replace("{" + name + "}", str(path))
    return [word]


def command(template: str, **values: object) -> tuple[str, ...]:
    """Split a command line at its spaces, then fill in `{names}`; a list fills in one word for each item.

    Names without a value stay as they are: the stage fills them in.

    >>> command("sort --key {key} {files} {output}/x", key=2, files=["a b", "c"])
    ('sort', '--key', '2', 'a b', 'c', '{output}/x')
    """
    words: list[str] = []
    for word in template.split():
        value = values.get(word[1:-1]) if word.startswith("{") and word.endswith("}") else None
        if isinstance(value, list | tuple):
            words += map(str, value)
            continue
        for name, one in values.items():
            word = word.replace("{" + name + "}", str(one))
        words.append(word)
    return tuple(words)


def printable(words: Sequence[str]) -> str:
    """Return a command as one would type it."""
    return shlex.join(words)
