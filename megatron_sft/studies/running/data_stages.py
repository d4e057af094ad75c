"""The stages of a study before any training: rows, vocabulary, shards and held-out problems."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from megatron_sft.errors import ConfigError
from megatron_sft.stages.graph import Stage
from megatron_sft.stages.programs import ROOT
from megatron_sft.studies.run_spec import DataSetSpec, RunSpec, split
from megatron_sft.studies.study import Study

_SUFFIXES = (".yaml", ".json", ".jsonl", ".parquet")


@dataclass(frozen=True, kw_only=True)
class Base:
    """Where a base model lies."""

    path: str
    """For commands."""
    after: tuple[str, ...] = ()
    inputs: dict[str, Path] = field(default_factory=dict)
    places: dict[str, Path] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Data:
    """The stages, and where what they make lies."""

    run: RunSpec
    models: Path | None
    """The folder that --models names."""
    stages: tuple[Stage, ...]

    def base(self, model: str) -> Base:
        """Return where a base model lies.

        Raises:
            ConfigError: when it is a folder, and --models has not been given.
        """
        return _base(self.run, model, self.models)

    def shards(self, data_set: str, model: str) -> tuple[str, tuple[str, ...]]:
        """Return the folder of a data set's shards for a model, and the stage that makes them."""
        name = _shards_name(self.run, data_set, model)
        return f"{{output}}/shards/{name}", (f"shards-{name}",)


def data_stages(study: Study, pairs: Iterable[tuple[str, str]], models: Path | None) -> Data:
    """Return the stages for these pairs of data set and base model, and for pre-training these base models.

    Raises:
        ConfigError: when a folder has not been named.
    """
    run = study.run
    assert run is not None
    needed = list(dict.fromkeys(pairs))
    made_here = {model: run.models[model] for _, model in needed if run.models[model].config is not None}
    needed += [(spec.data_set, model) for model, spec in made_here.items() if spec.data_set is not None]
    rows = _with_sources(run, [data_set for data_set, _ in needed])
    if made_here and run.tokenizer is not None:
        rows = _with_sources(run, [*rows, *run.tokenizer.data_sets])
    # The model whose tokenizer a recipe gets: it counts tokens, and selects by them.
    first_model: dict[str, str] = {}
    for data_set, model in needed:
        first_model.setdefault(data_set, model)
    stages = {}
    for name in rows:
        model = first_model.get(name, needed[0][1])
        stages[f"data-{name}"] = _rows_stage(run, name, model, models)
    if made_here:
        stages["tokenizer"] = _tokenizer_stage(run)
    for data_set, model in needed:
        stage = _shards_stage(run, data_set, model, models)
        stages.setdefault(stage.name, stage)
    if run.held_out is not None:
        stages["held-out"] = _held_out_stage(run)
    return Data(run=run, models=models, stages=tuple(stages.values()))


def _with_sources(run: RunSpec, names: Sequence[str]) -> list[str]:
    """Return data sets with those that their commands name."""
    found: list[str] = []
    waiting = list(names)
    while waiting:
        name = waiting.pop(0)
        if name not in found:
            found.append(name)
            waiting += _sources(run, run.data_sets[name])
    return found


def _sources(run: RunSpec, spec: DataSetSpec) -> list[str]:
    text = " ".join((*spec.make, spec.options))
    return [name for name in dict.fromkeys(re.findall(r"\{([^{}]+)\}", text)) if name in run.data_sets]


def _rows_stage(run: RunSpec, name: str, model: str, models: Path | None) -> Stage:
    spec, folder = run.data_sets[name], f"{{output}}/data/{name}"
    after = tuple(f"data-{source}" for source in _sources(run, spec))
    if spec.recipe is None:
        commands = tuple(_words(run, text, folder) for text in spec.make)
        return Stage(
            name=f"data-{name}",
            kind="data",
            title=f"rows of {name}",
            commands=commands,
            outputs=(folder,),
            after=after,
            inputs=_outside(commands),
        )
    tokenizer = _tokenizer(run, model, models)
    further = _words(run, spec.options, folder)
    words = ("tools/build_dataset", spec.recipe, "--output", folder, "--tokenizer", tokenizer.path, "--overwrite")
    return Stage(
        name=f"data-{name}",
        kind="data",
        title=f"rows of {name}, by the recipe {spec.recipe}",
        commands=((*words, *further),),
        # Its own stages are keyed: what still fits is kept (a teacher's traces above all), the rest is built again.
        outputs=(f"{folder}/dataset.json",),
        after=(*after, *tokenizer.after),
        places=tokenizer.places,
        inputs=tokenizer.inputs | _outside([(spec.recipe, *further)]),
    )


def _tokenizer_stage(run: RunSpec) -> Stage:
    spec = run.tokenizer
    assert spec is not None, "check_run asks for one where models are made"
    for name in spec.data_sets:
        if not run.data_sets[name].rows:
            raise ConfigError(
                f"run: tokenizer: data_sets: {name} has no `rows`; only rows that `make` makes can be read"
            )
    rows = [f"{{output}}/data/{name}/{file}" for name in spec.data_sets for file in run.data_sets[name].rows]
    return Stage(
        name="tokenizer",
        kind="data",
        title=f"a vocabulary of {spec.vocab_size} tokens",
        commands=(
            ("tools/make_tokenizer", *rows, "--vocab-size", str(spec.vocab_size), "--output", "{output}/tokenizer"),
        ),
        outputs=("{output}/tokenizer",),
        after=tuple(f"data-{name}" for name in spec.data_sets),
    )


def _shards_stage(run: RunSpec, data_set: str, model: str, models: Path | None) -> Stage:
    spec, name = run.data_sets[data_set], _shards_name(run, data_set, model)
    tokenizer = _tokenizer(run, model, models)
    files = spec.rows or ("rows.parquet",)
    folder = f"{{output}}/shards/{name}"
    further = split(spec.shards_for.get(model, spec.shards), "shards")
    words = ("tools/build_shards", *(f"{{output}}/data/{data_set}/{file}" for file in files))
    return Stage(
        name=f"shards-{name}",
        kind="data",
        title=f"tokens of {data_set}" + ("" if run.models[model].config is not None else f" for {model}"),
        commands=((*words, "--output", folder, "--tokenizer", tokenizer.path, *further),),
        outputs=(folder,),
        after=(f"data-{data_set}", *tokenizer.after),
        inputs=tokenizer.inputs,
        places=tokenizer.places,
    )


def _held_out_stage(run: RunSpec) -> Stage:
    assert run.held_out is not None
    folder = "{output}/held_out"
    sources = _sources(run, DataSetSpec(make=run.held_out.make, shards=""))
    if sources:
        raise ConfigError(f"run: held_out: make: {{{sources[0]}}}: held-out problems are made apart from training data")
    commands = tuple(_words(run, text, folder) for text in run.held_out.make)
    return Stage(
        name="held-out",
        kind="data",
        title="held-out problems",
        commands=commands,
        outputs=(folder,),
        inputs=_outside(commands),
    )


def _words(run: RunSpec, text: str, folder: str) -> tuple[str, ...]:
    """Return the words of a command of the study, whose {output} is a data set's own folder."""
    places = {"output": folder} | {name: f"{{output}}/data/{name}" for name in run.data_sets}
    pattern = re.compile("|".join(re.escape("{" + name + "}") for name in places))
    return tuple(pattern.sub(lambda match: places[match[0][1:-1]], word) for word in split(text, "make"))


def _outside(commands: Iterable[Sequence[str]]) -> dict[str, Path]:
    """Return files and folders from elsewhere that commands name, as words or behind an equals sign."""
    found: dict[str, Path] = {}
    for word in (word for words in commands for word in words):
        name = word.partition("=")[2] if word.partition("=")[2] else word
        is_path = ("/" in name or name.endswith(_SUFFIXES)) and "{" not in name and not name.startswith("tools/")
        if is_path and (ROOT / name).exists():
            found[name] = Path(name)
    return found


def _shards_name(run: RunSpec, data_set: str, model: str) -> str:
    """Models that are made here share a vocabulary; others have their own."""
    return data_set if run.models[model].config is not None else f"{data_set}-{model}"


def _tokenizer(run: RunSpec, model: str, models: Path | None) -> Base:
    if run.models[model].config is not None:
        return Base(path="{output}/tokenizer", after=("tokenizer",))
    base = _base(run, model, models)
    # Weights do not decide over tokens, and may be large.
    [(name, folder)] = base.inputs.items()
    known = ("tokenizer.json.gz", "tokenizer_config.json", "chat_template.jinja")
    files = [file for file in known if (folder / file).exists()]
    if "tokenizer.json.gz" not in files:
        files.insert(0, "tokenizer.json")
    return Base(path=base.path, inputs={f"{name}/{file}": folder / file for file in files}, places={name: folder})


def _base(run: RunSpec, model: str, models: Path | None) -> Base:
    folder = run.models[model].folder
    if folder is None:
        return Base(path=f"{{output}}/models/{model}", after=(f"export-{model}",))
    if models is None:
        raise ConfigError(f"--models is missing: {model} is the folder {folder} below it")
    return Base(path=f"{{models/{model}}}", inputs={f"models/{model}": models / folder})
