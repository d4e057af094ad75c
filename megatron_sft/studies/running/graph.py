"""A study as a graph of stages: data, base models, a training for each arm, exports, evaluations, the report."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from megatron_sft.errors import ConfigError
from megatron_sft.recipes import paper
from megatron_sft.stages.graph import LAUNCHER, Graph, Resources, Stage
from megatron_sft.studies.run_spec import ModelSpec, RunSpec, named, option_words, split
from megatron_sft.studies.running.data_stages import Data, data_stages
from megatron_sft.studies.study import Study

KINDS = ("data", "models", "train", "convert", "evaluate", "report")
TRAINER = "megatron_sft/pretrain_sft.py"
TO_HF = ("tools/convert_checkpoint", "to-hf")


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What the command line says beside the study."""

    study_file: Path
    arms: tuple[str, ...]
    """Those to run, in the study's order."""
    models: Path | None = None
    """Folder with the base models' folders."""
    benchmarks: Path | None = None
    """Folder with the benchmarks' files."""
    layout: str | None = None
    """Layout of recipes of the paper's runs."""
    asked_benchmarks: tuple[str, ...]
    """Those to evaluate."""
    trial: tuple[int, ...] = ()
    """Steps of every arm in place of the study's."""
    evaluation_parts: int = 1
    """Stages that the checkpoints of an arm are dealt to."""
    nodes: int = 1
    """Nodes of a training."""


def build(study: Study, choices: Choices) -> Graph:
    """Return the stages of these arms.

    Raises:
        ConfigError: when the study does not say how it is run, or a folder has not been named.
    """
    if study.run is None:
        raise ConfigError(f"{choices.study_file}: has no key `run`: it says what was run, not how; docs/studies.md")
    builder = _Builder(study, study.run, choices)
    models = dict.fromkeys(study.conditions(arm).model for arm in choices.arms)
    return Graph(
        [
            *builder.data.stages,
            *(stage for model in models for stage in builder.model_stages(model)),
            *(builder.base_evaluation(model) for model in models),
            *(stage for arm in choices.arms for stage in builder.arm_stages(arm)),
            # The report knows the study's steps; a trial at others has nothing to show there.
            *([builder.report(models)] if set(choices.trial) <= set(study.steps) else []),
        ]
    )


def evaluated_steps(study: Study, arm: str, trial: Sequence[int]) -> tuple[int, ...]:
    """Return the steps whose checkpoints are evaluated, without the base (step 0)."""
    return tuple(trial) or study.evaluated_steps(arm)[1:]


def recipe_of(study: Study, arm: str, layout: str | None) -> str | None:
    """Return an arm's recipe; one of the paper's with the layout."""
    recipe = study.arms[arm].recipe
    if recipe is None or layout is None or not recipe.startswith(paper.PREFIX) or "@" in recipe:
        return recipe
    return f"{recipe}@{layout}"


class _Builder:
    def __init__(self, study: Study, run: RunSpec, choices: Choices) -> None:
        self._study, self._run, self._choices = study, run, choices
        pairs = [(study.conditions(arm).data_set, study.conditions(arm).model) for arm in choices.arms]
        self.data: Data = data_stages(study, pairs, choices.models)
        gpus = run.num_processes if run.uses_gpus else 0
        self._resources = Resources(processes=run.num_processes, gpus=gpus, nodes=choices.nodes)

    def model_stages(self, name: str) -> list[Stage]:
        """Return pre-training and export of a model that is made here; nothing for a folder."""
        spec = self._run.models[name]
        if spec.config is None:
            return []
        return [self._pre_training(name, spec), self._base_export(name)]

    def _pre_training(self, name: str, spec: ModelSpec) -> Stage:
        config, save = f"{{output}}/pretrain/{name}.json", f"{{output}}/pretrain/{name}"
        assert spec.data_set is not None
        shards, made_by = self.data.shards(spec.data_set, name)
        given = {"lr": self._study.base.learning_rate, "seed": self._run.seed}
        options = given | named(self._run.train) | named(spec.options)
        places = {"model": config, "tokenizer": "{output}/tokenizer", "data": shards, "save": save}
        return Stage(
            name=f"pretrain-{name}",
            kind="models",
            title=f"base model {name}, on {spec.data_set}",
            commands=(
                (
                    *("tools/python", "-m", "megatron_sft.studies.running.model_config"),
                    *(
                        "--config",
                        json.dumps(spec.config, sort_keys=True),
                        "--tokenizer",
                        "{output}/tokenizer",
                        "--output",
                        config,
                    ),
                ),
                (LAUNCHER, TRAINER, *option_words(places | options)),
            ),
            outputs=(config, save),
            after=made_by,
            resources=self._resources,
        )

    def _base_export(self, name: str) -> Stage:
        model = f"{{output}}/models/{name}"
        return Stage(
            name=f"export-{name}",
            kind="models",
            title=f"{name} as a Hugging Face folder",
            commands=((*TO_HF, "--checkpoint", f"{{output}}/pretrain/{name}", "--output", model),),
            outputs=(model,),
            after=(f"pretrain-{name}",),
        )

    def arm_stages(self, arm: str) -> list[Stage]:
        """Return training, export and evaluation of an arm."""
        steps = evaluated_steps(self._study, arm, self._choices.trial)
        return [self._training(arm, steps), self._export(arm, steps), *self._evaluations(arm, steps)]

    def _training(self, arm: str, steps: Sequence[int]) -> Stage:
        conditions, recipe = self._study.conditions(arm), recipe_of(self._study, arm, self._choices.layout)
        shards, made_by = self.data.shards(conditions.data_set, conditions.model)
        base = self.data.base(conditions.model)
        options = named(self._run.train) | {
            "seed": self._run.seed,
            "lr": conditions.learning_rate,
            "lr_decay_style": conditions.schedule,
            "global_batch_size": conditions.batch,
            "train_iters": conditions.last_step,
            "save_iters": ",".join(map(str, steps)),
        }
        if self._choices.trial:
            options |= {"train_iters": steps[-1], "lr_warmup_iters": steps[-1] // 10}
        places = {"data": shards, "init_from": base.path, "save": f"{{output}}/train/{arm}"}
        words = [] if recipe is None else ["--recipe", recipe]
        return Stage(
            name=f"train-{arm}",
            kind="train",
            title=f"{conditions.model} on {conditions.data_set}, {options['train_iters']} steps of {conditions.batch}",
            commands=((LAUNCHER, TRAINER, *words, *option_words(places | options)),),
            outputs=(f"{{output}}/train/{arm}",),
            after=(*made_by, *base.after),
            inputs=base.inputs | self._recipe_file(recipe),
            resources=self._resources,
        )

    def _recipe_file(self, recipe: str | None) -> dict[str, Path]:
        """A recipe that is a file counts by its content. What a `base` in it names counts by its name alone."""
        return {"recipe": Path(recipe)} if recipe is not None and Path(recipe).is_file() else {}

    def _export(self, arm: str, steps: Sequence[int]) -> Stage:
        save, folder = f"{{output}}/train/{arm}", f"{{output}}/hf/{arm}"
        # With one iteration, to-hf takes the export's own folder.
        target = folder if len(steps) > 1 else f"{folder}/iter_{steps[0]:07d}"
        iterations = ",".join(map(str, steps))
        commands: list[tuple[str, ...]] = [
            (*TO_HF, "--checkpoint", save, "--iteration", iterations, "--output", target)
        ]
        if self._run.keep_checkpoints == "last":
            drop = ("tools/python", "-m", "megatron_sft.studies.running.drop_checkpoints")
            commands.append((*drop, "--checkpoint", save, "--exports", folder))
        return Stage(
            name=f"convert-{arm}",
            kind="convert",
            title=f"{len(steps)} checkpoints as Hugging Face folders",
            commands=tuple(commands),
            outputs=(folder,),
            after=(f"train-{arm}",),
        )

    def _evaluations(self, arm: str, steps: Sequence[int]) -> list[Stage]:
        num_parts, num_tasks = min(self._choices.evaluation_parts, len(steps)), len(self._choices.asked_benchmarks)
        stages = []
        for part in range(num_parts):
            folder = f"{{output}}/eval/arms/{arm}" + (f"/part-{part + 1}" if num_parts > 1 else "")
            models = ("--model", f"{{output}}/hf/{arm}", "--steps", ",".join(map(str, steps[part::num_parts])))
            stages.append(
                self._evaluation(
                    name=f"evaluate-{arm}" + (f"-part-{part + 1}" if num_parts > 1 else ""),
                    title=f"{len(steps[part::num_parts])} checkpoints on {num_tasks} benchmarks",
                    words=(*models, *split(self._run.evaluate, "evaluate")),
                    folder=folder,
                    after=(f"convert-{arm}",),
                )
            )
        return stages

    def base_evaluation(self, model: str) -> Stage:
        """Return the evaluation of a base model, which stands for step 0 of all its arms."""
        base = self.data.base(model)
        words = [*split(self._run.evaluate, "evaluate"), *split(self._run.evaluate_base, "evaluate_base")]
        return self._evaluation(
            name=f"evaluate-base-{model}",
            title=f"{model} itself on {len(self._choices.asked_benchmarks)} benchmarks",
            words=("--base", base.path, *words),
            folder=f"{{output}}/eval/base/{model}",
            after=base.after,
            inputs=base.inputs,
        )

    def _evaluation(
        self,
        *,
        name: str,
        title: str,
        words: Sequence[str],
        folder: str,
        after: Sequence[str],
        inputs: dict[str, Path] | None = None,
    ) -> Stage:
        benchmarks = [self._study.benchmarks[name] for name in self._choices.asked_benchmarks]
        in_domain = _names(one.task for one in benchmarks if one.group == "in-domain")
        is_made_here, inputs = self._run.held_out is not None, inputs or {}
        if not is_made_here:
            inputs = inputs | {"benchmarks": _given("benchmarks", self._choices.benchmarks)}
        return Stage(
            name=name,
            kind="evaluate",
            title=title,
            commands=(
                (
                    *("tools/evaluate", "--tasks", _names(one.task for one in benchmarks)),
                    *(("--in-domain", in_domain) if in_domain else ()),
                    *(
                        "--data",
                        "{output}/held_out" if is_made_here else "{benchmarks}",
                        "--seed",
                        str(self._run.seed),
                        "--output",
                        folder,
                        *words,
                    ),
                ),
            ),
            # Answers, grades and judgements are keyed by their content: they are kept, and only what changed is made.
            outputs=(f"{folder}/results.json", f"{folder}/comparisons.json"),
            after=(*after, "held-out") if is_made_here else tuple(after),
            inputs=inputs,
            resources=Resources(gpus=self._resources.gpus),
        )

    def report(self, models: Iterable[str]) -> Stage:
        """Return the report over what has been evaluated."""
        before = [f"evaluate-base-{model}" for model in models]
        for arm in self._choices.arms:
            before += [stage.name for stage in self.arm_stages(arm) if stage.kind == "evaluate"]
        report = ("tools/python", "-m", "megatron_sft.studies.report")
        words = (*report, "{study}", "--run", "{output}", "--output", "{output}/report")
        return Stage(
            name="report",
            kind="report",
            title="figures and tables of all arms, beside the published numbers",
            commands=(words,),
            outputs=("{output}/report/index.html",),
            after=tuple(before),
            is_tolerant=True,
            inputs={"study": self._choices.study_file},
        )


def _given(option: str, folder: Path | None) -> Path:
    if folder is None:
        raise ConfigError(f"--{option} is missing: name the folder with the {option}")
    return folder


def _names(names: Iterable[str]) -> str:
    return ",".join(dict.fromkeys(names))
