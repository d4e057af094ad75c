"""Studies as data: a YAML file of conditions, arms, benchmarks and comparisons. docs/studies.md has the format."""

import dataclasses
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import yaml

from megatron_sft.errors import ConfigError
from megatron_sft.recipes import paper
from megatron_sft.recipes.specs import read_spec
from megatron_sft.recipes.values import nearest
from megatron_sft.recipes.yaml_nodes import read_document
from megatron_sft.studies.claims import ClaimSpec, check_claims
from megatron_sft.studies.reference import ReferenceTable, check_table
from megatron_sft.studies.run_spec import RunSpec, check_run

PACKAGED = Path(__file__).parent
CONDITIONS = ("model", "data_set", "teacher", "learning_rate", "epochs", "batch", "schedule", "last_step")


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What an arm is trained with."""

    model: str
    """Name of the base model."""
    data_set: str
    """Name of the training set."""
    teacher: str
    """Who wrote the responses."""
    learning_rate: float
    epochs: int
    batch: int
    """Samples in an optimizer step."""
    schedule: Literal["cosine", "constant"]
    """Of the learning rate, after the warm-up."""
    last_step: int
    """Optimizer steps of the whole run."""


@dataclass(frozen=True, kw_only=True)
class Axes:
    """Values that arms may have, by condition; `base` has one of each."""

    model: tuple[str, ...]
    data_set: tuple[str, ...]
    teacher: tuple[str, ...]
    learning_rate: tuple[float, ...]
    epochs: tuple[int, ...]
    batch: tuple[int, ...]
    schedule: tuple[str, ...]
    last_step: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class ArmSpec:
    """What an arm does not take from `base`."""

    recipe: str | None = None
    """Training options, as the trainer's --recipe takes them; the conditions win over them."""
    model: str | None = None
    data_set: str | None = None
    teacher: str | None = None
    learning_rate: float | None = None
    epochs: int | None = None
    batch: int | None = None
    schedule: Literal["cosine", "constant"] | None = None
    last_step: int | None = None
    skip_steps: tuple[int, ...] = ()
    """Steps of the study that are not evaluated in this arm."""


@dataclass(frozen=True, kw_only=True)
class BenchmarkSpec:
    """What is measured."""

    task: str
    """Name for `tools/evaluate --tasks`."""
    title: str
    group: Literal["in-domain", "out-of-domain", "general", "safety"]
    unit: Literal["per cent", "points"]
    num_items: int
    num_samples: int
    """Answers for each item."""
    better: Literal["higher", "lower"] = "higher"
    figure: str = ""
    """Name among the `ratios` of results.json that is taken in place of the score."""


@dataclass(frozen=True, kw_only=True)
class ComparisonSpec:
    """Arms that are set side by side; the first one is what the others are compared with."""

    name: str
    arms: tuple[str, ...]
    at: Literal["last step", "equal steps"] = "last step"
    benchmarks: tuple[str, ...] = ()
    """Empty: all."""
    claims: tuple[int, ...] = ()
    """Numbers in `claims` that it speaks about."""
    drawn_in: str = ""
    """Figure or table of the published study."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """A table of conditions."""

    name: str
    title: str
    source: str = ""
    """Where the conditions come from."""
    axes: Axes
    base: Conditions
    """What arms have unless they say otherwise."""
    steps: tuple[int, ...]
    """Optimizer steps to evaluate, after the base model (step 0), as far as an arm reaches."""
    benchmarks: dict[str, BenchmarkSpec]
    arms: dict[str, ArmSpec]
    claims: dict[str, ClaimSpec | str] = field(default_factory=dict)
    """Number: what is to be checked; a text alone is not tested."""
    comparisons: tuple[ComparisonSpec, ...] = ()
    tags: dict[str, str] = field(default_factory=dict)
    """Of the sources of reference numbers: what each one is, and how far to trust it."""
    reference: dict[str, ReferenceTable] = field(default_factory=dict)
    """Published numbers."""
    remarks: tuple[str, ...] = ()
    """Published statements that are no numbers of one cell."""
    run: RunSpec | None = None
    """How to make and evaluate the arms; None for a study that is only read."""

    def conditions(self, arm: str) -> Conditions:
        """What an arm is trained with."""
        spec = self.arms[arm]
        given = {name: getattr(spec, name) for name in CONDITIONS if getattr(spec, name) is not None}
        return dataclasses.replace(self.base, **given)

    def evaluated_steps(self, arm: str) -> tuple[int, ...]:
        """Steps of an arm at which it is evaluated, base (0) first."""
        last, skipped = self.conditions(arm).last_step, self.arms[arm].skip_steps
        return (0, *(step for step in self.steps if step <= last and step not in skipped))

    def columns(self) -> tuple[str, ...]:
        """Benchmarks and, behind each, its further figures in `reference` (such as `truthfulqa/truthful`)."""
        named = dict.fromkeys(column for table in self.reference.values() for column in table.column_names)
        further = [column for column in named if column not in self.benchmarks]
        return tuple(
            column
            for name in self.benchmarks
            for column in (name, *(other for other in further if other.split("/")[0] == name))
        )

    def benchmark_of(self, column: str) -> BenchmarkSpec:
        """The benchmark of a column; one that has several figures has their names behind a slash."""
        return self.benchmarks[column.split("/")[0]]

    def claim(self, number: str) -> ClaimSpec:
        """A claim by its number."""
        found = self.claims[number]
        return ClaimSpec(text=found) if isinstance(found, str) else found


def load(name: str) -> Study:
    """Read a study: a YAML file, or the name of a packaged one.

    Raises:
        ConfigError: when it is not found or is no study, with file and line.
    """
    path = find(name)
    return read(path, shown_as=f"megatron_sft/studies/{path.name}" if path.parent == PACKAGED else name)


def find(name: str) -> Path:
    """Return a study's file: `paper`, `studies/paper` and `megatron_sft/studies/paper.yaml` name the packaged one.

    Raises:
        ConfigError: when there is none.
    """
    path = Path(name)
    if path.is_file():
        return path
    packaged = {file.stem: file for file in sorted(PACKAGED.glob("*.yaml"))}
    short = name.removeprefix("megatron_sft/").removeprefix("studies/").removesuffix(".yaml")
    if short not in packaged:
        known = ", ".join(packaged)
        raise ConfigError(f"no study {name}: there is no file {path}; packaged are {known}{nearest(short, packaged)}")
    return packaged[short]


def read(path: Path, *, shown_as: str, over: Path | None = None) -> Study:
    """Read one file; raises what `load` raises.

    Args:
        path: the file.
        shown_as: its name in messages.
        over: a file of keys that replace those of `run`.
    """
    document = read_document(path, shown_as=shown_as)
    if not isinstance(document, yaml.MappingNode):
        raise ConfigError(f"{shown_as}: expected lines of the form `name: value`")
    if over is not None:
        lay_over(document, over, shown_as)
    study = read_spec(Study, document, shown_as, what="a study", given={"name": path.stem})
    _check_steps(study, shown_as)
    for arm in study.arms:
        _check_conditions(study, arm, shown_as)
        _check_recipe(study, arm, shown_as)
    for comparison in study.comparisons:
        where = f"{shown_as}: comparison {comparison.name}"
        _check_names(comparison.arms, study.arms, f"{where}: arms")
        _check_names(comparison.benchmarks, study.benchmarks, f"{where}: benchmarks")
        _check_names([str(claim) for claim in comparison.claims], study.claims, f"{where}: claims")
    if study.run is not None:
        conditions = [study.conditions(arm) for arm in study.arms]
        check_run(
            study.run,
            models=dict.fromkeys(one.model for one in conditions),
            data_sets=dict.fromkeys(one.data_set for one in conditions),
            shown_as=shown_as,
        )
    for key, table in study.reference.items():
        where = f"{shown_as}: reference {key}"
        check_table(table, where)
        _check_names(table.used_tags(), study.tags, f"{where}: tags")
        _check_names([row.arm for row in table.rows if row.arm], study.arms, f"{where}: arm")
        _check_names([row.model for row in table.rows if row.model], study.axes.model, f"{where}: model")
        _check_names([column.split("/")[0] for column in table.column_names], study.benchmarks, f"{where}: columns")
    check_claims(study.claims, document, arms=study.arms, columns=study.columns(), shown_as=shown_as)
    return study


def lay_over(document: yaml.MappingNode, over: Path, shown_as: str) -> None:
    """Replace keys of a study's `run` by those of another file; mappings are merged, everything else is replaced.

    Raises:
        ConfigError: when one of them has no such section.
    """
    sections = {key.value: value for key, value in document.value if isinstance(key, yaml.ScalarNode)}
    section, node = sections.get("run"), read_document(over, shown_as=str(over))
    if not isinstance(section, yaml.MappingNode):
        raise ConfigError(f"{shown_as}: has no key `run`, which {over} could change")
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError(f"{over}: expected lines of the form `name: value`, keys of a study's `run`")
    document.value = _merged(document, yaml.MappingNode(document.tag, [(_key_of(document, "run"), node)])).value


def _merged(below: yaml.MappingNode, above: yaml.MappingNode) -> yaml.MappingNode:
    """Return a new mapping; the old ones stay as they are, since an alias may stand for them elsewhere."""
    pairs = list(below.value)
    for key, value in above.value:
        same = [number for number, (name, _) in enumerate(pairs) if name.value == key.value]
        if not same:
            pairs.append((key, value))
        elif isinstance(pairs[same[0]][1], yaml.MappingNode) and isinstance(value, yaml.MappingNode):
            pairs[same[0]] = (pairs[same[0]][0], _merged(pairs[same[0]][1], value))
        else:
            pairs[same[0]] = (key, value)
    return yaml.MappingNode(below.tag, pairs, below.start_mark, below.end_mark, flow_style=below.flow_style)


def _key_of(mapping: yaml.MappingNode, name: str) -> yaml.Node:
    found: yaml.Node = next(key for key, _ in mapping.value if key.value == name)
    return found


def _check_steps(study: Study, shown_as: str) -> None:
    if not study.steps or list(study.steps) != sorted(set(study.steps)) or study.steps[0] < 1:
        raise ConfigError(f"{shown_as}: steps: {list(study.steps)}: expected rising numbers from 1 (base is step 0)")
    for arm, spec in study.arms.items():
        for step in spec.skip_steps:
            if step not in study.steps:
                raise ConfigError(f"{shown_as}: arm {arm}: skip_steps: {step} is none of the study's steps")


def _check_conditions(study: Study, arm: str, shown_as: str) -> None:
    conditions = study.conditions(arm)
    for name in CONDITIONS:
        value, known = getattr(conditions, name), getattr(study.axes, name)
        if value not in known:
            values = ", ".join(map(str, known))
            raise ConfigError(f"{shown_as}: arm {arm}: {name}: {value}: the axis has {values}; add it there, or choose")


def _check_recipe(study: Study, arm: str, shown_as: str) -> None:
    """An arm and the paper's run that it names must be the same conditions."""
    reference = study.arms[arm].recipe
    if reference is None or not reference.startswith(paper.PREFIX):
        return
    run = paper.find(reference, asked_at=f"{shown_as}: arm {arm}: recipe: {reference}: ")
    option = {name: entry.text for name, entry in run.entries.items()}
    there = {
        "model": run.facts["base_model"],
        "data_set": run.facts["data_set"],
        "learning_rate": float(option["lr"]),
        "epochs": run.facts["epochs"],
        "batch": int(option["global_batch_size"]),
        "schedule": option["lr_decay_style"],
        "last_step": int(option["train_iters"]),
    }
    conditions = study.conditions(arm)
    for name, value in there.items():
        if getattr(conditions, name) != value:
            raise ConfigError(
                f"{shown_as}: arm {arm}: {name}: {getattr(conditions, name)}: its recipe {reference} has {value}; "
                f"set {name} of the arm to that, or take another recipe"
            )


def _check_names(names: Iterable[str], known: Collection[str], where: str) -> None:
    for name in names:
        if name not in known:
            raise ConfigError(f"{where}: there is no {name}; known are {', '.join(known)}{nearest(name, known)}")
