"""What a benchmark is: where its items are, how they are asked, sampled and graded, and what the paper reports."""

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from evals.items import Item

Group: TypeAlias = Literal["in-domain", "out-of-domain", "general", "safety"]
"""The paper's groups (appendix B.3): in-domain reasoning, out-of-domain reasoning, general, safety."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of a benchmark's file, as it stands there."""

    fields: Mapping[str, Any]
    where: str
    """File and row, for messages."""


ReadItems: TypeAlias = Callable[[Sequence[Row], Set[str]], list[Item]]
"""Makes items of rows, given the paper's quirks that are switched on. Raises DataError that names `Row.where`."""

MakeRows: TypeAlias = Callable[[int, int], list[Row]]
"""Draws rows where a benchmark has no file: (size, seed) -> rows. A smaller size gives the first of the same rows."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a benchmark's rows come from; nothing is ever downloaded without being asked for."""

    local_names: tuple[str, ...] = ()
    """File names that are looked for in --data, the first that is there is read; all rows of one file."""
    read_all: bool = False
    """All of `local_names` are read, in their order, and none may be missing."""
    hub_id: str = ""
    """Data set on the Hugging Face hub, `owner/name`; empty where there is none."""
    hub_files: tuple[str, ...] = ()
    """The data set's files that hold the items, all of them; they are found where the hub's cache already has them."""
    origin: str = ""
    """Where users find the file when it is not on the hub in this form, in words."""
    revision: str | None = None
    """Commit of the data set; None where none is known."""
    gated: bool = False
    """The hub asks for a consent, or the rows are harmful prompts: users bring the file."""


@dataclass(frozen=True, kw_only=True)
class Preset:
    """The paper's sampling for a benchmark."""

    num_samples_per_item: int = 1
    temperature: float = 0.6
    top_p: float = 0.95
    top_k: int = 0
    """0: all tokens."""
    min_p: float = 0.0
    max_tokens: int = 32_768
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    max_total_tokens: int | None = None
    """Prompt and response together have at most this many; None: only the model's context bounds them."""


HELD_OUT_PRESET = Preset(max_tokens=1 << 40)
"""For held-out problems: what the context leaves."""


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """One benchmark; docs/benchmarks.md says how to add one."""

    name: str
    """As --tasks takes it: small letters, digits, underscores."""
    title: str
    """As papers write it."""
    group: Group
    source: Source
    read: ReadItems
    make_rows: MakeRows | None = None
    """Draws the rows where `source` names no file."""
    default_size: int = 0
    """How many rows `make_rows` draws without --limit."""
    grader: str
    """Name in `evals.graders.registry`."""
    preset: Preset = field(default_factory=Preset)
    rubric: str | None = None
    """Name in `evals.judges.rubrics` of the questions that a judge answers about each response, before grading."""
    ratios: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Further figures: name -> (numerator, denominator), each a sum over all answers of a `Verdict.figures` entry."""
    quirks: Mapping[str, str] = field(default_factory=dict)
    """What the paper's own code does otherwise: name for --paper-quirks -> one sentence. One that is in neither of the
    two mappings below changes the prompt, in `read`."""
    quirk_graders: Mapping[str, str] = field(default_factory=dict)
    """Quirk -> the grader that has it."""
    quirk_presets: Mapping[str, Preset] = field(default_factory=dict)
    """Quirk -> the sampling that it means."""
    published: Mapping[str, float] = field(default_factory=dict)
    """The paper's score by base model before fine-tuning, in its own unit (mostly per cent)."""

    def grader_with(self, quirks: Set[str]) -> str:
        """Return the grader's name, given the quirks that are switched on."""
        return next((grader for quirk, grader in self.quirk_graders.items() if quirk in quirks), self.grader)

    def preset_with(self, quirks: Set[str]) -> Preset:
        """Return the sampling, given the quirks that are switched on."""
        return next((preset for quirk, preset in self.quirk_presets.items() if quirk in quirks), self.preset)
