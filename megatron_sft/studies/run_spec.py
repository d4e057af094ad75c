"""How a study is run: the key `run` of its file. docs/studies.md has the format."""

import shlex
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from megatron_sft.errors import ConfigError
from megatron_sft.recipes.values import nearest, option_types, read_option
from megatron_sft.recipes.yaml_nodes import Entry
from megatron_sft.train.options import TrainOptions

Options = dict[str, Entry]
"""Options of the trainer, with their places in the file."""
_PLACES = ("data", "save", "init_from", "model", "tokenizer", "tensorboard_dir")
_CONDITIONS = ("lr", "global_batch_size", "train_iters", "lr_decay_style", "save_iters", "seed")


@dataclass(frozen=True, kw_only=True)
class TokenizerSpec:
    """The vocabulary of models that are made here."""

    data_sets: tuple[str, ...]
    """Rows of these make it."""
    vocab_size: int


@dataclass(frozen=True, kw_only=True)
class DataSetSpec:
    """Where rows come from: commands of one's own, or a recipe of tools/build_dataset."""

    make: tuple[str, ...] = ()
    """Commands, one after the other, from the repository's root. {output} is the data set's folder, {NAME} that of
    another data set, which is made before."""
    rows: tuple[str, ...] = ()
    """Files of rows below {output}, or patterns, whose files are sorted."""
    recipe: str | None = None
    """Instead of both."""
    options: str = ""
    """With `recipe`: further words of tools/build_dataset."""
    shards: str
    """Further words of tools/build_shards, --max-length among them."""
    shards_for: dict[str, str] = field(default_factory=dict)
    """By model: words in place of `shards`."""
    mean_length: int | None = None
    """Tokens of a sample, prompt included, for --plan."""


@dataclass(frozen=True, kw_only=True)
class HeldOutSpec:
    """Held-out problems that are made here."""

    make: tuple[str, ...]
    """As for data sets; {output} is the folder for `tools/evaluate --data`."""


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """A base model: a folder, or one that is pre-trained here."""

    folder: str | None = None
    """Hugging Face folder below --models."""
    config: dict[str, Any] | None = None
    """config.json of a model made here, without vocab_size."""
    data_set: str | None = None
    """With `config`: what it is pre-trained on."""
    options: Options = field(default_factory=dict)
    """With `config`: trainer options over those of `train`; train_iters and global_batch_size are needed."""


@dataclass(frozen=True, kw_only=True)
class RunSpec:
    """How the arms of a study are made and evaluated."""

    seed: int = 0
    """Of all trainings, and of the answers."""
    num_processes: int
    """Processes of a training on each node; on GPUs one for each."""
    tokenizer: TokenizerSpec | None = None
    data_sets: dict[str, DataSetSpec]
    """By the names on the axis `data_set`, and others for pre-training."""
    held_out: HeldOutSpec | None = None
    """None: the folder that --benchmarks names."""
    models: dict[str, ModelSpec]
    """By the names on the axis `model`."""
    train: Options = field(default_factory=dict)
    """Options of every training; what the arms' conditions say is not among them."""
    evaluate: str = ""
    """Further words of tools/evaluate."""
    evaluate_base: str = ""
    """The same, for base models only."""
    keep_checkpoints: Literal["all", "last"] = "all"
    """last: once an arm is exported, its checkpoints but the last one are removed."""
    answer_tokens: dict[str, int] = field(default_factory=dict)
    """By benchmark: tokens of an answer, for --plan."""

    @property
    def uses_gpus(self) -> bool:
        """Whether processes of a training have a GPU each: not with `train: {device: cpu}`."""
        device = named(self.train).get("device")
        return device is None or device.text != "cpu"


def check_run(run: RunSpec, *, models: Iterable[str], data_sets: Iterable[str], shown_as: str) -> None:
    """Check what `read_spec` cannot: names, what belongs together, and the options' names and types.

    Args:
        run: the section.
        models: those that arms have.
        data_sets: those that arms have.
        shown_as: the file in messages.

    Raises:
        ConfigError: for the first thing that is wrong.
    """
    where = f"{shown_as}: run"
    if run.num_processes < 1:
        raise ConfigError(f"{where}: num_processes: {run.num_processes}: must be at least 1")
    _check_names(models, run.models, f"{where}: models")
    _check_names(data_sets, run.data_sets, f"{where}: data_sets")
    check_options(run.train, forbidden=(*_PLACES, *_CONDITIONS))
    for name, data_set in run.data_sets.items():
        _check_data_set(name, data_set, run, f"{where}: data_sets: {name}")
    for name, model in run.models.items():
        _check_model(model, run, f"{where}: models: {name}")
    if run.held_out is not None and not run.held_out.make:
        raise ConfigError(f"{where}: held_out: make: [] makes nothing; name commands, or leave held_out out")
    if run.tokenizer is not None:
        _check_names(run.tokenizer.data_sets, run.data_sets, f"{where}: tokenizer: data_sets")
    for key in ("evaluate", "evaluate_base"):
        split(getattr(run, key), f"{where}: {key}")


def option_words(options: Mapping[str, Any]) -> list[str]:
    """Return options of the trainer as words of its command line; a later value of a name has replaced an earlier one.

    Values may be entries of a file, or plain ones.
    """
    known = option_types(TrainOptions)
    words = []
    for name, given in options.items():
        value = read_option(name, given, known) if isinstance(given, Entry) else given
        option = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{option}" if value else f"--no-{option}")
        else:
            words += [f"--{option}", str(value)]
    return words


def named(options: Options) -> Options:
    """Return options with underscores in their names."""
    return {name.replace("-", "_"): entry for name, entry in options.items()}


def check_options(options: Options, *, forbidden: Collection[str]) -> None:
    """Check names and types.

    Raises:
        ConfigError: for an option that the trainer does not have or that is not this section's, with its line.
    """
    known = option_types(TrainOptions)
    for name, entry in named(options).items():
        if name in forbidden:
            raise ConfigError(
                f"{entry.place}: {name}: {entry.text}: comes from the study (its arms, models and seed); take it out"
            )
        read_option(name, entry, known)


def split(text: str, where: str) -> list[str]:
    """Return the words of a command line.

    Raises:
        ConfigError: for a quotation mark that is not closed.
    """
    try:
        return shlex.split(text)
    except ValueError as error:
        raise ConfigError(f"{where}: {text}: {error}") from error


def _check_data_set(name: str, spec: DataSetSpec, run: RunSpec, where: str) -> None:
    if (spec.recipe is None) == (not spec.make):
        raise ConfigError(f"{where}: give one of `make` (commands) and `recipe` (of tools/build_dataset)")
    if (spec.recipe is None) != bool(spec.rows):
        raise ConfigError(f"{where}: rows: {list(spec.rows)}: files below {{output}} belong to `make`, and only to it")
    if spec.options and spec.recipe is None:
        raise ConfigError(f"{where}: options: {spec.options}: have no effect without `recipe`")
    _check_names(spec.shards_for, run.models, f"{where}: shards_for")
    for text in (*spec.make, spec.options, spec.shards, *spec.shards_for.values()):
        split(text, where)
    if name in ("output", "torchrun"):
        raise ConfigError(f"{where}: {name} stands for something else in commands; take another name")


def _check_model(spec: ModelSpec, run: RunSpec, where: str) -> None:
    if (spec.folder is None) == (spec.config is None):
        raise ConfigError(f"{where}: give one of `folder` (below --models) and `config` (to make it here)")
    if spec.config is None:
        if spec.data_set is not None or spec.options:
            raise ConfigError(f"{where}: data_set and options have no effect without `config`")
        return
    if run.tokenizer is None:
        raise ConfigError(f"{where}: a model that is made here needs `tokenizer` beside `models`")
    if spec.data_set is None:
        raise ConfigError(f"{where}: data_set is missing: what the model is pre-trained on")
    _check_names([spec.data_set], run.data_sets, f"{where}: data_set")
    if "vocab_size" in spec.config:
        raise ConfigError(f"{where}: config: vocab_size: take it out; it is the tokenizer's")
    check_options(spec.options, forbidden=(*_PLACES, "seed"))
    for option in ("train_iters", "global_batch_size"):
        if option not in named(spec.options):
            raise ConfigError(f"{where}: options: {option} is missing")


def _check_names(names: Iterable[str], known: Collection[str], where: str) -> None:
    for name in names:
        if name not in known:
            raise ConfigError(f"{where}: there is no {name}; known are {', '.join(known)}{nearest(name, known)}")
