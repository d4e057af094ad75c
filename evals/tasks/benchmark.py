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


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a benchmark's rows come from; nothing is ever downloaded without being asked for."""

    local_names: tuple[str, ...]
    """File names that are looked for in --data, the first that is there is read; all rows of one file."""
    hub_id: str = ""
    """Data set on the Hugging Face hub, `owner/name`; empty where there is none."""
    hub_files: str = ""
    """Pattern of the data set's files that hold the items."""
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
    grader: str
    """Name in `evals.graders.registry`."""
    preset: Preset = field(default_factory=Preset)
    rubric: str | None = None
    """Name in `evals.judges.rubrics` of the questions that a judge answers about each response, before grading."""
    ratios: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Further figures: name -> (numerator, denominator), each a sum over all answers of a `Verdict.figures` entry."""
    quirks: Mapping[str, str] = field(default_factory=dict)
    """What the paper's own code does otherwise: name for --paper-quirks -> one sentence."""
    published: Mapping[str, float] = field(default_factory=dict)
    """The paper's score by base model before fine-tuning, in its own unit (mostly per cent)."""
