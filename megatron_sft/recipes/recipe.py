"""Recipes: a YAML file of option names and values, the file it builds on, or a run of the paper."""

import os
from dataclasses import dataclass
from pathlib import Path

from megatron_sft.errors import ConfigError
from megatron_sft.recipes import paper
from megatron_sft.recipes.values import nearest, read_option
from megatron_sft.recipes.yaml_nodes import Entry, read_entries

PACKAGED = Path(__file__).parent
_BASE = "base"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a recipe and the recipes below it give."""

    name: str
    """As it was asked for."""
    entries: dict[str, Entry]
    """By option name; a recipe's own entries have replaced those of its base."""
    needs: tuple[paper.Need, ...] = ()
    """What must come from elsewhere."""
    notes: tuple[str, ...] = ()
    """Lines to show with it."""


def load(name: str, *, folder: Path = Path(), above: tuple[Path, ...] = (), asked_at: str = "") -> Recipe:
    """Find and read a recipe: `paper:RUN[@LAYOUT]`, a YAML file, or the name of a packaged file.

    Args:
        name: file names are taken from `folder`.
        folder: the working directory, or that of the recipe whose base this is.
        above: the files that lead here by their `base`, the first one first.
        asked_at: begins the message when there is no such recipe.

    Raises:
        ConfigError: when it is not found or not a recipe, or when a base leads back to itself.
    """
    if name.startswith(paper.PREFIX):
        run = paper.find(name, asked_at=asked_at)
        base = load(run.base)
        return Recipe(name=name, entries=base.entries | run.entries, needs=run.needs, notes=run.notes)
    path = _find_file(name, folder, asked_at)
    if path.resolve() in [file.resolve() for file in above]:
        chain = " -> ".join(_shown(file) for file in (*above, path))
        raise ConfigError(f"{asked_at}leads back to itself: {chain}; take one of these lines out")
    entries = read_entries(path, shown_as=_shown(path))
    if _BASE not in entries:
        return Recipe(name=name, entries=entries)
    link = entries.pop(_BASE)
    base = load(
        read_option(_BASE, link, {_BASE: str}),
        folder=path.parent,
        above=(*above, path),
        asked_at=f"{link.place}: {_BASE}: {link.text}: ",
    )
    return Recipe(name=name, entries=base.entries | entries, needs=base.needs, notes=base.notes)


def _find_file(name: str, folder: Path, asked_at: str) -> Path:
    path = Path(os.path.normpath(folder / name))
    if path.is_file():
        return path
    packaged = {file.stem: file for file in PACKAGED.glob("*.yaml") if file != paper.TABLE}
    if name in packaged:
        return packaged[name]
    raise ConfigError(
        f"{asked_at}no recipe {name}: there is no file {path}; packaged are {', '.join(sorted(packaged))} and "
        f"{paper.PREFIX}1 to {paper.PREFIX}{len(paper.all_runs())}, which tools/recipes lists"
        f"{nearest(name, packaged)}"
    )


def _shown(path: Path) -> str:
    """A file as messages name it: packaged ones from the package on, others as they were asked for."""
    return f"megatron_sft/recipes/{path.name}" if path.parent == PACKAGED else str(path)
