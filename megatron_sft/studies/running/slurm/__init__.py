"""Stages as jobs of a Slurm cluster, through submitit. docs/studies.md has what is submitted and how it goes on."""

from collections.abc import Collection
from pathlib import Path

from megatron_sft.stages.graph import Graph
from megatron_sft.stages.marks import Mark
from megatron_sft.studies.running.slurm.options import load
from megatron_sft.studies.running.slurm.queue import check_programs


def run_on_slurm(
    graph: Graph, output: Path, names: Collection[str], *, file: Path | None, is_waiting: bool
) -> dict[str, Mark]:
    """Submit stages and watch them; see `SlurmRunner.run`.

    Args:
        graph: the stages.
        output: the run's folder, which all nodes see.
        names: the stages to run.
        file: what jobs ask for.
        is_waiting: whether to stay until no job is left.
    """
    spec = load(file)
    check_programs()
    # Needs submitit, of which `check_programs` says how to install it.
    from megatron_sft.studies.running.slurm.runner import SlurmRunner

    return SlurmRunner(graph, output, spec).run(names, is_waiting=is_waiting)
