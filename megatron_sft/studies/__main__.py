"""`tools/run_study`: runs a study as a graph of stages; docs/studies.md describes it."""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from megatron_sft import cli
from megatron_sft.errors import ConfigError, IncompleteError
from megatron_sft.recipes import paper
from megatron_sft.recipes.values import nearest
from megatron_sft.stages.graph import Graph
from megatron_sft.stages.local import LocalRunner, stopped_by_sigterm
from megatron_sft.stages.marks import Mark
from megatron_sft.stages.programs import ROOT
from megatron_sft.studies.run_spec import RunSpec
from megatron_sft.studies.running.cost import Costs, Machine
from megatron_sft.studies.running.graph import Choices, build
from megatron_sft.studies.running.plan import lines, with_hours
from megatron_sft.studies.running.slurm import run_on_slurm
from megatron_sft.studies.study import Study, find, read

Kind = Literal["data", "models", "train", "convert", "evaluate", "report"]


@dataclass(frozen=True, kw_only=True)
class RunStudyConfig:
    """Run a study: data, a training for each arm, exports, evaluations, report. What is done is not done again.

    docs/studies.md has the format of studies and the folders.
    """

    study: tyro.conf.Positional[str]
    """Name of a packaged study, such as paper, or a YAML file."""
    output: Path | None = None
    """Folder for everything that the study makes. Default: runs/STUDY, with --trial runs/STUDY-trial."""
    only: tuple[str, ...] = ()
    """Arms to run, with what they need. Default: all."""
    stage: tuple[Kind, ...] = ()
    """Kinds of stages to run; what they need must be done. Default: all."""
    plan: bool = False
    """Show the stages, what would become of each and what it costs, and run none."""
    models: Path | None = None
    """Folder that holds the base models' folders."""
    benchmarks: Path | None = None
    """Folder with the benchmarks' files, for studies without held-out problems of their own."""
    run: Path | None = None
    """YAML file with keys of the study's section `run` that hold here: data sources, processes, words of programs."""
    benchmark: tuple[str, ...] = ()
    """The study's benchmarks to evaluate. Default: all."""
    layout: str | None = None
    """Layout of the paper's recipes, such as 8x80GB."""
    trial: tuple[int, ...] = ()
    """Steps at which every arm is evaluated in place of the study's, rising; the last one ends the training."""
    evaluation_parts: int = 1
    """Stages that each arm's checkpoints are dealt to, for clusters."""
    executor: Literal["local", "slurm"] = "local"
    """Run the stages one after the other on this machine, or each as a job of a Slurm cluster."""
    slurm: Path | None = None
    """With --executor slurm: YAML file of what jobs ask for."""
    no_wait: bool = False
    """With --executor slurm: submit the jobs and return."""

    def __post_init__(self) -> None:
        """Refuse values that cannot work."""
        if list(self.trial) != sorted(set(self.trial)) or (self.trial and self.trial[0] < 1):
            raise ConfigError(f"--trial {' '.join(map(str, self.trial))}: expected rising steps from 1, such as 2 4")
        if self.evaluation_parts < 1:
            raise ConfigError(f"--evaluation-parts {self.evaluation_parts}: must be at least 1")
        if self.executor != "slurm" and (self.slurm is not None or self.no_wait):
            option = "--no-wait" if self.slurm is None else f"--slurm {self.slurm}"
            raise ConfigError(f"{option} has no effect without --executor slurm")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; return its exit status."""
    return cli.run(RunStudyConfig, run_study, prog="run_study", argv=argv)


def run_study(config: RunStudyConfig) -> None:
    """Run, or show, the stages that are asked for.

    Raises:
        IncompleteError: when one of them is not done in the end.
    """
    file = find(config.study)
    study = read(file, shown_as=_shown(file), over=config.run)
    choices = choices_of(config, study, file)
    graph = build(study, choices)
    output = output_of(config, study)
    models = None if choices.models is None else ROOT / choices.models
    costs = Costs(study=study, output=ROOT / output, models=models, machine=Machine(), nodes=choices.nodes)
    if config.executor == "slurm":
        graph = with_hours(graph, costs, choices)
    runner = LocalRunner(graph, output)
    asked = [stage.name for stage in graph if not config.stage or stage.kind in config.stage]
    if config.plan:
        verdicts = {name: verdict for name, verdict in runner.verdicts().items() if name in asked}
        print(*lines(verdicts, costs, choices), sep="\n")
        return
    with stopped_by_sigterm():
        if config.executor == "slurm":
            marks = run_on_slurm(graph, runner.output, asked, file=config.slurm, is_waiting=not config.no_wait)
        else:
            _check_runs_here(graph, asked)
            marks = runner.run(asked)
    if not config.no_wait:
        _finish(runner, marks)


def choices_of(config: RunStudyConfig, study: Study, file: Path) -> Choices:
    """Return what the command line says beside the study.

    Raises:
        ConfigError: for arms that there are not, and options that have no effect.
    """
    run = study.run
    if run is not None and run.held_out is not None and config.benchmarks is not None:
        raise ConfigError("--benchmarks has no effect: the study makes held-out problems of its own")
    if run is not None and config.models is not None and all(spec.folder is None for spec in run.models.values()):
        raise ConfigError("--models has no effect: the study makes its base models")
    return Choices(
        study_file=_relative(file),
        arms=_chosen("--only", config.only, study.arms),
        asked_benchmarks=_chosen("--benchmark", config.benchmark, study.benchmarks),
        models=_folder(config.models, "models", config.plan),
        benchmarks=_folder(config.benchmarks, "benchmarks", config.plan),
        layout=config.layout,
        trial=config.trial,
        evaluation_parts=config.evaluation_parts,
        nodes=1 if run is None else _num_nodes(config.layout, study, run),
    )


def _chosen(option: str, names: Sequence[str], known: Iterable[str]) -> tuple[str, ...]:
    """Return the names given, all without any, in the study's order."""
    known = tuple(known)
    for name in names:
        if name not in known:
            raise ConfigError(f"{option} {name}: there is none; known are {', '.join(known)}{nearest(name, known)}")
    return tuple(name for name in known if not names or name in names)


def _folder(given: Path | None, default: str, is_plan: bool) -> Path | None:
    """Return a folder as it is typed; a plan needs none."""
    if given is None:
        return Path(default) if is_plan else None
    return _relative(given)


def output_of(config: RunStudyConfig, study: Study) -> Path:
    """Return the run's folder as the commands name it."""
    default = Path("runs") / (f"{study.name}-trial" if config.trial else study.name)
    return default if config.output is None else _relative(config.output)


def _num_nodes(layout: str | None, study: Study, run: RunSpec) -> int:
    """Return the nodes of a layout such as 64x80GB."""
    if layout is None:
        return 1
    if not any(spec.recipe is not None and spec.recipe.startswith(paper.PREFIX) for spec in study.arms.values()):
        raise ConfigError(f"--layout {layout} has no effect: no arm has a recipe of the paper")
    known = {name for one in paper.all_runs() for name in one.layouts}
    if layout not in known:
        raise ConfigError(f"--layout {layout}: there is no such layout; known are {', '.join(sorted(known))}")
    num_gpus = int(layout.partition("x")[0])
    return -(-num_gpus // run.num_processes)


def _check_runs_here(graph: Graph, asked: Sequence[str]) -> None:
    for name in asked:
        if graph[name].resources.nodes > 1:
            raise ConfigError(
                f"{name} takes {graph[name].resources.nodes} nodes, and this is one: "
                "take --executor slurm, another --layout, or --plan"
            )


def _finish(runner: LocalRunner, marks: dict[str, Mark]) -> None:
    seconds = {name: mark.seconds for name, mark in marks.items() if mark.seconds}
    print(f"\nseconds: {', '.join(f'{name} {value:.0f}' for name, value in seconds.items())}")
    print(f"all stages: {sum(seconds.values()):.0f} s; {runner.output}", flush=True)
    undone = {name: mark for name, mark in marks.items() if mark.state != "done"}
    if undone:
        lines = [f"\n  {name}: {mark.state}: {mark.reason}" for name, mark in undone.items()]
        raise IncompleteError(
            f"{len(undone)} of {len(marks)} stages are not done; the same command tries again:{''.join(lines)}"
        )


def _relative(path: Path) -> Path:
    """Return a path as it is typed in the repository's root, where the programs run."""
    absolute = path.resolve()
    return absolute.relative_to(ROOT) if absolute.is_relative_to(ROOT) else absolute


def _shown(file: Path) -> str:
    return str(_relative(file))


if __name__ == "__main__":
    sys.exit(main())
