"""The 33 runs of arXiv 2604.06628, read from paper_runs.yaml."""

import dataclasses
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from megatron_sft.errors import ConfigError
from megatron_sft.recipes.values import nearest
from megatron_sft.recipes.yaml_nodes import Entry, Place, mapping_entries, place_of, read_entries

PREFIX = "paper:"
TABLE = Path(__file__).with_name("paper_runs.yaml")
REFERENCE_GPUS = 8
"""GPUs of the published trainer."""
_SHOWN = f"megatron_sft/recipes/{TABLE.name}"
_FACTS = ("number", "name", "base_model", "data_set", "layout", "epochs", "micro_batch", "max_length", "where")
"""Columns that are not options of the trainer."""
_SIZES = {
    "tp": "tensor_model_parallel_size",
    "pp": "pipeline_model_parallel_size",
    "cp": "context_parallel_size",
}


@dataclass(frozen=True, kw_only=True)
class Need:
    """Something that a recipe cannot name, since it lies where the user put it."""

    options: tuple[str, ...]
    """Any one of these options gives it."""
    text: str
    """What it is and where it comes from."""


@dataclass(frozen=True, kw_only=True)
class PaperRun:
    """A row of the table with what it refers to."""

    number: int
    name: str
    facts: dict[str, Any]
    """The cells that are not options, by column."""
    base_model: dict[str, Any]
    """`id` on Hugging Face, `revision` or None, perhaps a `note`."""
    data_set: dict[str, Any]
    """`id` (None when unpublished), `revision` or None, `samples`, perhaps a `note`."""
    base: str
    """The recipe that the row changes."""
    entries: dict[str, Entry]
    """The options that the row gives, and those of a chosen layout."""
    layouts: dict[str, dict[str, Entry]]
    """Options of each suggested layout, by its name."""
    place: Place
    """The row."""
    chosen_layout: str | None = None
    """The layout whose options are in `entries`."""

    @property
    def needs(self) -> tuple[Need, ...]:
        """The shards and the model."""
        data, model, length = self.data_set, self.base_model, self.facts["max_length"]
        shards = (
            f"shards of {self.facts['data_set']} ({_source(data)}), which tools/build_dataset "
            f"{self.facts['data_set'].lower()} --max-length {length} makes, rows in the published order"
        )
        return (
            Need(options=("data",), text=shards),
            Need(options=("init_from", "model"), text=f"folder of {self.facts['base_model']} ({_source(model)})"),
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """What to know when the run starts."""
        facts = self.facts
        texts = [
            f"paper run {self.number}, {self.name}: {facts['base_model']} on {facts['data_set']}, "
            f"{facts['epochs']} epochs of {self.data_set['samples']} samples; {facts['where']}",
            f"as the published trainer weights the loss: {self.reference_options}",
        ]
        if self.chosen_layout is None:
            known = ", ".join(f"{PREFIX}{self.number}@{name} ({self.layout_text(name)})" for name in self.layouts)
            texts.append(f"no layout chosen; suggested: {known}")
        return tuple(texts)

    @property
    def reference_options(self) -> str:
        """The options that weight the loss as the published trainer did."""
        group = self.facts["micro_batch"]
        return f"--loss-weighting reference --reference-group-size {group} --reference-ranks {REFERENCE_GPUS}"

    def layout_text(self, layout: str) -> str:
        """A layout in a few characters: `tp 4, pp 1, cp 1`."""
        entries = self.layouts[layout]
        return ", ".join(f"{short} {entries[name].text}" for short, name in _SIZES.items() if name in entries)


def find(reference: str, *, asked_at: str = "") -> PaperRun:
    """The run that `paper:NUMBER` or `paper:NAME` names; `@LAYOUT` behind it adds a layout's options.

    Raises:
        ConfigError: when there is no such run or layout; the message begins with `asked_at`.
    """
    wanted, at, layout = reference.removeprefix(PREFIX).partition("@")
    found = [run for run in all_runs() if wanted in (str(run.number), run.name)]
    if not found:
        raise ConfigError(
            f"{asked_at}the paper has no run {wanted}: give a number from 1 to {len(all_runs())} or a name, which "
            f"tools/recipes lists{nearest(wanted, [run.name for run in all_runs()])}"
        )
    run = found[0]
    if not at:
        return run
    if layout not in run.layouts:
        raise ConfigError(
            f"{asked_at}{reference}: run {run.number} has no layout {layout}; its layouts are {', '.join(run.layouts)}"
        )
    return dataclasses.replace(run, entries=run.entries | run.layouts[layout], chosen_layout=layout)


@functools.cache
def all_runs() -> tuple[PaperRun, ...]:
    """Every row of the table, in its order."""
    sections = read_entries(TABLE, shown_as=_SHOWN)
    plain = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
    return tuple(
        _read_row(node, cells, sections, plain)
        for node, cells in zip(sections["runs"].node.value, plain["runs"], strict=True)
    )


def _read_row(node: yaml.Node, cells: list[Any], sections: dict[str, Entry], plain: dict[str, Any]) -> PaperRun:
    """One row.

    Args:
        node: the row with its lines.
        cells: the row's values.
        sections: the whole table by section, with lines.
        plain: the same as values.
    """
    place = place_of(node, shown_as=_SHOWN)
    values = dict(zip(plain["columns"], cells, strict=True))
    nodes = dict(zip(plain["columns"], node.value, strict=True))
    facts = {name: values[name] for name in _FACTS}
    options = {name: Entry(node=cell, place=place) for name, cell in nodes.items() if name not in _FACTS}
    options["save_iters"] = _save_iters(sections["save_iters"], last=values["train_iters"])
    layouts = mapping_entries(sections["layouts"].node, shown_as=_SHOWN)[facts["layout"]]
    return PaperRun(
        number=facts["number"],
        name=facts["name"],
        facts=facts,
        base_model=plain["base_models"][facts["base_model"]],
        data_set=plain["data_sets"][facts["data_set"]],
        base=plain["base"],
        entries=options,
        layouts={
            name: mapping_entries(entry.node, shown_as=_SHOWN)
            for name, entry in mapping_entries(layouts.node, shown_as=_SHOWN).items()
        },
        place=place,
    )


def _save_iters(entry: Entry, *, last: int) -> Entry:
    """Those of the table's iterations that a run reaches."""
    reached = [item for item in entry.node.value if int(item.value) <= last]
    node = yaml.SequenceNode(entry.node.tag, reached, entry.node.start_mark, entry.node.end_mark, flow_style=True)
    return Entry(node=node, place=entry.place)


def _source(table_entry: dict[str, Any]) -> str:
    """Where a model or data set comes from, in words."""
    parts = [f"Hugging Face {table_entry['id']}"] if table_entry["id"] else []
    if table_entry["revision"]:
        parts.append(f"revision {table_entry['revision'][:8]}")
    if "samples" in table_entry:
        parts.append(f"{table_entry['samples']} samples")
    return ", ".join([*parts, *([table_entry["note"]] if "note" in table_entry else [])])
