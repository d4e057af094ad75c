"""What Slurm says of jobs, and which job was submitted for which stage."""

import json
import shutil
import subprocess
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path

from megatron_sft.errors import EnvironmentProblem
from megatron_sft.files import write_json
from megatron_sft.stages.marks import FOLDER

PROGRAMS = ("sbatch", "srun", "squeue", "scontrol")
ENDED = {
    *("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY"),
    *("BOOT_FAIL", "DEADLINE", "PREEMPTED", "REVOKED"),
}
"""States that a job does not leave by itself; one that is requeued is pending."""
TIMEOUT_S = 60.0


@dataclass(frozen=True, kw_only=True)
class QueuedJob:
    """A job as squeue shows it; jobs that ended stay for some minutes."""

    state: str
    """Slurm's word for it, such as PENDING."""
    reason: str
    """Why it waits."""
    nodes: str
    """Where it runs."""

    @property
    def is_live(self) -> bool:
        """Whether it runs, or will."""
        return self.state not in ENDED


@dataclass(frozen=True, kw_only=True)
class Record:
    """The job that was submitted for a stage; no other job may run it."""

    job: str
    """Id, with the index in an array behind an underscore."""
    key: str
    """The stage's key then."""
    submitted: str
    """Time, UTC."""


class Records:
    """Files `stages/slurm/NAME.json` of a run."""

    def __init__(self, folder: Path) -> None:
        """Take the run's folder; nothing is read yet."""
        self.folder = folder / FOLDER / "slurm"

    def read(self, name: str) -> Record | None:
        """Return what was submitted for a stage; None where nothing was."""
        try:
            return Record(**json.loads((self.folder / f"{name}.json").read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def write(self, name: str, record: Record) -> None:
        """File it, whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / f"{name}.json", asdict(record), sort_keys=False)


def check_programs() -> None:
    """Look for Slurm's commands and for submitit.

    Raises:
        EnvironmentProblem: when some are missing.
    """
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        raise EnvironmentProblem(
            f"--executor slurm: {', '.join(missing)}: not found; start it on a machine that can submit jobs"
        )
    try:
        import submitit  # noqa: F401
    except ImportError as error:
        raise EnvironmentProblem("--executor slurm needs submitit: pip install 'megatron-sft[slurm]'") from error


def look() -> dict[str, QueuedJob]:
    """Return this user's jobs by id.

    Raises:
        EnvironmentProblem: when Slurm does not answer.
    """
    words = ["squeue", "--noheader", "--array", "--me", "--states=all", "--format=%i|%T|%r|%N"]
    found = {}
    for line in ask(words).splitlines():
        job, state, reason, nodes = line.strip().split("|")
        found[job] = QueuedJob(state=state, reason=reason, nodes=nodes)
    return found


def state_of(job: str) -> str:
    """Return one job's state; empty when Slurm does not know it or does not answer."""
    try:
        return next(iter(ask(["squeue", "--noheader", "--states=all", f"--jobs={job}", "--format=%T"]).split()), "")
    except EnvironmentProblem:
        return ""


def final_states(jobs: Collection[str]) -> dict[str, str]:
    """Return how jobs ended that squeue no longer shows, where the cluster keeps accounts."""
    if not jobs or shutil.which("sacct") is None:
        return {}
    try:
        lines = ask(["sacct", "-n", "-X", "-P", "-o", "JobID,State", "-j", ",".join(jobs)]).splitlines()
    except EnvironmentProblem:
        return {}
    rows = [line.split("|") for line in lines]
    return {row[0]: row[1] for row in rows if len(row) == 2}


def ask(words: list[str]) -> str:
    """Run one of Slurm's commands and return what it prints.

    Raises:
        EnvironmentProblem: when it fails or takes more than a minute.
    """
    try:
        result = subprocess.run(words, capture_output=True, text=True, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise EnvironmentProblem(f"{words[0]}: no answer in {TIMEOUT_S:.0f} s") from error
    if result.returncode != 0:
        raise EnvironmentProblem(f"{words[0]}: {result.stderr.strip() or f'exit status {result.returncode}'}")
    return result.stdout
