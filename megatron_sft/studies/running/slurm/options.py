"""What jobs ask Slurm for: a YAML file, by kind of stage, and what submitit makes of it."""

import dataclasses
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from megatron_sft.errors import ConfigError
from megatron_sft.recipes.specs import read_spec
from megatron_sft.recipes.yaml_nodes import read_document
from megatron_sft.stages.graph import LAUNCHER, Stage

HOURS = {"data": 4.0, "models": 24.0, "train": 24.0, "convert": 1.0, "evaluate": 8.0, "report": 1.0}
"""Time limits where neither the file nor the stage says any, by kind."""
ROOM = 2.0
"""A stage's own estimate of its time is multiplied by this to make a limit."""


@dataclass(frozen=True, kw_only=True)
class JobSpec:
    """What one kind of job asks for; None leaves it to the cluster."""

    hours: float | None = None
    """Time limit. By default twice what the stage reckons, or what its kind usually takes."""
    nodes: int | None = None
    """For trainings alone: each of them runs torchrun. By default what the stage says."""
    gpus_per_node: int | None = None
    """By default what the stage says."""
    cpus_per_task: int | None = None
    """By default one for each process of the stage. There is one task on each node."""
    mem: str | None = None
    """Memory of a node, such as 64GB."""
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    exclude: str | None = None
    gres: str | None = None
    exclusive: bool | None = None
    """Whether nodes are shared with no other job."""
    at_a_time: int | None = None
    """Jobs of one array that run at a time."""
    sbatch: dict[str, str] = field(default_factory=dict)
    """Further options of sbatch, without their hyphens: `reservation: name`."""
    srun: tuple[str, ...] = ()
    """Words for srun, such as --container-image=..."""
    setup: tuple[str, ...] = ()
    """Lines of shell that come before the program."""

    def over(self, other: "JobSpec") -> "JobSpec":
        """Return this with what it does not say taken from another; `sbatch`, `srun` and `setup` come on top."""
        values = {name: value for name, value in vars(other).items() if getattr(self, name) is None}
        return dataclasses.replace(
            self,
            **values,
            sbatch={**other.sbatch, **self.sbatch},
            srun=(*other.srun, *self.srun),
            setup=(*other.setup, *self.setup),
        )


@dataclass(frozen=True, kw_only=True)
class SlurmSpec:
    """A whole file: how jobs are submitted, and what each kind asks for."""

    python: str | None = None
    """Starts Python on a compute node; by default the interpreter that submits. A container stands here:
    `apptainer exec --nv image.sif python3`."""
    requeues: int = 50
    """How often a job that reached its time limit goes on in a further one."""
    warning_s: int = 300
    """A job is told so many seconds before its time limit, to save what it has."""
    poll_s: float = 15.0
    """Time between two looks at the queue while waiting."""
    all: JobSpec = JobSpec()
    """What every kind asks for that does not say otherwise."""
    data: JobSpec = JobSpec()
    models: JobSpec = JobSpec()
    train: JobSpec = JobSpec()
    convert: JobSpec = JobSpec()
    evaluate: JobSpec = JobSpec()
    report: JobSpec = JobSpec()

    def job(self, stage: Stage) -> JobSpec:
        """Return what a stage's job asks for, with what the stage itself says filled in."""
        kind: JobSpec = getattr(self, stage.kind)
        spec = kind.over(self.all)
        estimate = stage.resources.hours
        hours = max(0.25, ROOM * estimate) if estimate is not None else HOURS[stage.kind]
        own = JobSpec(
            hours=hours,
            nodes=stage.resources.nodes,
            gpus_per_node=stage.resources.gpus or None,
            cpus_per_task=stage.resources.processes,
        )
        found = spec.over(own)
        return found if is_spread(stage) else dataclasses.replace(found, nodes=1)

    def parameters(self, stage: Stage) -> dict[str, Any]:
        """Return a stage's job as the parameters of `submitit.SlurmExecutor`."""
        job = self.job(stage)
        assert job.hours is not None and job.nodes is not None
        same = ("gpus_per_node", "cpus_per_task", "mem", "partition", "account", "qos", "constraint", "exclude", "gres")
        found = {name: getattr(job, name) for name in same}
        return {name: value for name, value in found.items() if value is not None} | {
            "time": math.ceil(60 * job.hours),
            "nodes": job.nodes,
            "ntasks_per_node": 1,
            "exclusive": job.exclusive or None,
            "array_parallelism": job.at_a_time or 256,
            "setup": list(job.setup) or None,
            "signal_delay_s": self.warning_s,
            "stderr_to_stdout": True,
            # From 22.05 on srun does not take the number over from sbatch. A task that is killed ends the others: the
            # first one would wait for it.
            "srun_args": [f"--cpus-per-task={job.cpus_per_task}", "--kill-on-bad-exit=1", *job.srun],
            "additional_parameters": {"requeue": True, "kill_on_invalid_dep": "yes", **job.sbatch},
        }


def load(path: Path | None) -> SlurmSpec:
    """Read a file; None leaves everything to the stages and the cluster.

    Raises:
        ConfigError: for what it cannot say, with file and line.
    """
    if path is None:
        return SlurmSpec()
    document = read_document(path, shown_as=str(path))
    if document is None:
        return SlurmSpec()
    spec = read_spec(SlurmSpec, document, str(path), what="a file of jobs")
    for name in ("all", *HOURS):
        job: JobSpec = getattr(spec, name)
        if job.nodes is not None and name not in ("models", "train"):
            raise ConfigError(f"{path}: {name}: nodes: {job.nodes}: only trainings use several; set it under `train`")
        for value, what in ((job.hours, "hours"), (job.nodes, "nodes"), (job.at_a_time, "at_a_time")):
            if value is not None and value <= 0:
                raise ConfigError(f"{path}: {name}: {what}: {value}: must be more than 0")
    return spec


def is_spread(stage: Stage) -> bool:
    """Whether several nodes can work on a stage."""
    return any(LAUNCHER in words for words in stage.commands)
