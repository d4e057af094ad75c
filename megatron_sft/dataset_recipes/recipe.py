"""Recipes of data sets: YAML files, read into dataclasses with file and line in every error."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import yaml

from megatron_sft.data.build_shards import FilterConfig
from megatron_sft.errors import ConfigError
from megatron_sft.recipes.specs import read_spec
from megatron_sft.recipes.values import nearest
from megatron_sft.recipes.yaml_nodes import read_document

PACKAGED = Path(__file__).resolve().parents[1] / "recipes" / "data"


@dataclass(frozen=True, kw_only=True)
class SourceSpec:
    """Files that a recipe reads, and what their columns are called."""

    hub: str | None = None
    """Id of a data set on the Hugging Face hub; None where only `--source` can name the files."""
    revision: str | None = None
    """Its commit; None takes the newest."""
    files: str = "*.parquet"
    """Pattern of the files' paths inside the data set; a star stands for slashes too."""
    columns: dict[str, str] = field(default_factory=dict)
    """Field: column. A dot leads into a struct, as in `reward_model.ground_truth`."""
    licence: str = "not stated; look it up before passing the set on"
    """Note for the data card."""


@dataclass(frozen=True, kw_only=True)
class QueriesSpec:
    """What the teacher is asked."""

    source: str
    """Name of the source."""
    question: str = "{question}"
    """The column `question`, made of the source's mapped columns in braces."""
    prompt: str
    """The user's turn: `{question}` and mapped columns in braces."""
    examples: dict[str, str] = field(default_factory=dict)
    """Question: response. Turns in front of each query that show the teacher how to answer; rows do not have them."""
    draw: int | None = None
    """At most so many queries, drawn by `seed`; None takes all."""
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class GenerateSpec:
    """How the teacher answers: the options of `generate_traces` that decide over the answers."""

    teacher: str
    """Hub id of the model; the command says where it lies."""
    num_samples: int = 32
    temperature: float = 0.6
    top_p: float = 0.95
    top_k: int = 20
    min_p: float = 0.0
    max_tokens: int = 16_384
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class SelectSpec:
    """Which rows are kept."""

    verify: Literal["none", "math", "countdown"] = "none"
    which: Literal["all", "random-correct", "first-correct", "shortest-correct"] = "all"
    num_queries: int | None = None
    """Queries drawn among those with a row that may be kept; None keeps all."""
    seed: int = 0
    filters: FilterConfig | None = None
    """The data layer's filters; None drops nothing but rows that cannot be trained on."""


@dataclass(frozen=True, kw_only=True)
class StartSpec:
    """Rows that exist already."""

    recipe: str | None = None
    """Name of a recipe, or a file beside this one, whose rows these are."""
    source: str | None = None
    """Or the name of a source."""
    prompt: str | None = None
    """With `source`: the user's turn for rows that have no `message`."""


@dataclass(frozen=True, kw_only=True)
class JoinSpec:
    """Responses of another source, matched by the text of the question."""

    source: str
    """Its columns `question` and `response`."""


@dataclass(frozen=True, kw_only=True)
class SubsetSpec:
    """Some of the rows, in their order."""

    num: int
    how: Literal["random", "first"] = "random"
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class TransformSpec:
    """What happens to rows that exist, in this order."""

    subset: SubsetSpec | None = None
    join: JoinSpec | None = None
    strip_think: bool = False
    """Cut the think block and the white space behind it."""


@dataclass(frozen=True, kw_only=True)
class ShardsSpec:
    """What the shards hold."""

    max_length: int = 20_000
    """Most tokens of a sample."""
    over_length: Literal["reject", "truncate"] = "reject"
    """What happens to longer ones; where one of several responses is chosen, only those that fit are."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A data set: either `queries` and `generate`, or `start`, then what follows."""

    name: str
    title: str
    description: str = ""
    answer: Literal["text", "countdown"] = "text"
    """Type of the column `answer`: text, or a struct of numbers and target."""
    sources: dict[str, SourceSpec] = field(default_factory=dict)
    published: SourceSpec | None = None
    """The finished set, where it is published; `--source RECIPE=PATH` starts from it."""
    queries: QueriesSpec | None = None
    generate: GenerateSpec | None = None
    start: StartSpec | None = None
    transform: TransformSpec | None = None
    select: SelectSpec = SelectSpec()
    shards: ShardsSpec = ShardsSpec()
    expected_rows: int | None = None
    """Rows of the finished set; another number is an error."""


def load(name: str, *, folder: Path = Path(), above: tuple[str, ...] = ()) -> tuple[Recipe, Recipe | None]:
    """Read a recipe, and the one that it starts from.

    Args:
        name: of a packaged recipe, or of a YAML file, taken from `folder`.
        folder: the working directory, or that of the recipe that starts from this one.
        above: the recipes that lead here.

    Raises:
        ConfigError: when it is not found or not a recipe.
    """
    path = folder / name
    if not path.is_file():
        packaged = {file.stem: file for file in sorted(PACKAGED.glob("*.yaml"))}
        if name not in packaged:
            known = ", ".join(packaged)
            raise ConfigError(
                f"no recipe {name}: there is no file {path}; packaged are {known}{nearest(name, packaged)}"
            )
        path = packaged[name]
    shown = f"megatron_sft/recipes/data/{path.name}" if path.parent == PACKAGED else str(path)
    recipe = read(path, shown_as=shown)
    if recipe.start is None or recipe.start.recipe is None:
        return recipe, None
    if above:
        raise ConfigError(f"{shown}: starts from {recipe.start.recipe}, but {above[0]} starts from it: one step only")
    base, _ = load(recipe.start.recipe, folder=path.parent, above=(name,))
    return recipe, base


def read(path: Path, *, shown_as: str) -> Recipe:
    """Read one file.

    Raises:
        ConfigError: for what is no recipe, with file and line.
    """
    document = read_document(path, shown_as=shown_as)
    if not isinstance(document, yaml.MappingNode):
        raise ConfigError(f"{shown_as}: expected lines of the form `name: value`")
    recipe = read_spec(Recipe, document, shown_as, what="a recipe", given={"name": path.stem})
    _check(recipe, shown_as)
    return recipe


def _check(recipe: Recipe, shown_as: str) -> None:
    made = recipe.queries is not None and recipe.generate is not None
    started = recipe.start is not None and (recipe.start.recipe is None) != (recipe.start.source is None)
    if made == started or (recipe.queries is None) != (recipe.generate is None):
        raise ConfigError(f"{shown_as}: give either queries and generate, or start with a recipe or a source")
    if made and recipe.transform is not None:
        raise ConfigError(f"{shown_as}: transform has no effect without start: make it a recipe of its own")
    named = [recipe.queries.source] if recipe.queries else []
    if recipe.start and recipe.start.source:
        named.append(recipe.start.source)
    if recipe.transform and recipe.transform.join:
        named.append(recipe.transform.join.source)
    for name in named:
        if name not in recipe.sources:
            known = ", ".join(recipe.sources) or "none"
            raise ConfigError(f"{shown_as}: there is no source {name}; sources has {known}")
    for name in recipe.sources:
        if name not in named:
            raise ConfigError(f"{shown_as}: the source {name} is not used; remove it")
