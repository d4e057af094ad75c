"""What a job does on its nodes: run one stage through `LocalRunner`, and go on in a further job when it has to stop.

submitit starts one task on each node. The first one runs the stage and writes its mark; those of the other nodes run
torchrun beside it, once the first says that there is something to run. Files in the run's folder are all they share.
"""

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType

import submitit
from submitit.core.utils import DelayedSubmission

from megatron_sft.errors import ConfigError, Interrupted, UserError
from megatron_sft.files import write_json
from megatron_sft.stages.graph import LAUNCHER, Graph
from megatron_sft.stages.local import LOGS, LocalRunner
from megatron_sft.stages.programs import GRACE_S, run_program
from megatron_sft.studies.running.slurm.queue import Records, state_of

RECORD_S = 60.0
"""How long a job looks for the record of its submission: it may start before that is on file."""
LOCK_S = 300.0
"""How long a requeued job waits for the lock of a lost node, which a shared file system holds for a while."""
LOOK_S = 1.0
STOPPED = 143
"""Exit status of a process that was told to stop."""


@dataclass(frozen=True, kw_only=True)
class StageOf:
    """A stage of a run, with all that is needed to run it on another machine."""

    name: str
    graph: Graph
    output: Path
    """The run's folder."""
    root: Path
    """Where the programs run."""
    requeues: int
    """How often the job may put itself back into the queue."""


class StageFailed(Exception):
    """Ends a job as failed; the reason is in the mark."""


class StageJob:
    """The function that submitit calls on every node."""

    def __init__(self, what: StageOf) -> None:
        """Take the stage; pickled until it runs."""
        self._what = what
        self._child: multiprocessing.process.BaseProcess | None = None
        self._is_told = False

    def __call__(self) -> None:
        """Run the stage, or this node's part of it.

        Raises:
            StageFailed: when it is not done.
        """
        environment = submitit.JobEnvironment()
        # Slurm's SIGTERM reaches every process of the job: the program ends by itself, this one sees to what follows.
        signal.signal(signal.SIGTERM, self._remember)
        self._check_record(environment.job_id)
        meeting = Meeting(self._what, environment) if environment.num_nodes > 1 else None
        if environment.global_rank == 0:
            self._run_stage(environment.job_id, meeting)
        else:
            assert meeting is not None
            self._run_beside(environment.global_rank, meeting)

    def checkpoint(self) -> DelayedSubmission:
        """Stop the program, which saves what it has: called before the time limit; submitit requeues the job then."""
        if self._child is not None:
            self._child.terminate()
            self._child.join()
        return DelayedSubmission(StageJob(self._what))

    def _remember(self, _number: int, _frame: FrameType | None) -> None:
        self._is_told = True

    def _check_record(self, job: str) -> None:
        """Refuse a job that is not on record: it was submitted by a call that was killed, or is an earlier one."""
        records, deadline = Records(self._what.root / self._what.output), time.monotonic() + RECORD_S
        while (record := records.read(self._what.name)) is None or record.job != job:
            if time.monotonic() > deadline:
                found = f"job {record.job}" if record is not None else "no job"
                raise StageFailed(f"{self._what.name}: {found} is on record for it, and this is {job}: nothing was run")
            time.sleep(LOOK_S)

    def _run_stage(self, job: str, meeting: "Meeting | None") -> None:
        runner = LocalRunner(self._what.graph, self._what.output, root=self._what.root)
        launcher = None
        if meeting is not None:
            launcher = meeting.launcher(0)
            meeting.call(runner.verdicts()[self._what.name].decision not in ("done", "waits", "blocked"))
        self._run_child(lambda: run_one(runner, self._what.name, launcher), meeting)
        mark = runner.marks.read(self._what.name)
        if mark is not None and mark.state == "done" and not self._child_failed:
            return
        if mark is not None and meeting is not None and (complaint := meeting.complaint()):
            mark = replace(mark, state="failed", why=f"{complaint}\n{mark.why}")
            runner.marks.write(self._what.name, mark)
        if self._is_told and state_of(job) == "RUNNING":
            # A warning before a preemption. Otherwise Slurm itself requeues the job, or it was cancelled.
            requeue(job, self._what.requeues)
        raise StageFailed(f"{self._what.name}: {mark.why if mark is not None and mark.why else 'see above'}")

    def _run_beside(self, rank: int, meeting: "Meeting") -> None:
        if not meeting.is_called():
            return
        log = self._what.root / self._what.output / LOGS / f"{self._what.name}.node-{rank}.log"
        stage = self._what.graph[self._what.name]
        filled = stage.filled(self._what.output, meeting.launcher(rank))
        ours = [words for words, raw in zip(filled, stage.commands, strict=True) if LAUNCHER in raw]
        self._run_child(lambda: run_all(ours, log, self._what.root), None)
        if self._child_failed and not self._is_told:
            meeting.complain(rank, f"{socket.gethostname()}: see {log}")

    def _run_child(self, action: Callable[[], bool], meeting: "Meeting | None") -> None:
        """Run an action in a process of its own, which can be stopped from a signal's handler in this one."""
        # Until it has its own handlers, the new process would take a signal as this one does.
        ours = {signal.SIGTERM, warning_signal()}
        signal.pthread_sigmask(signal.SIG_BLOCK, ours)
        self._child = multiprocessing.get_context("fork").Process(target=in_child, args=(action, ours))
        self._child.start()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ours)
        while self._child.is_alive():
            self._child.join(LOOK_S)
            complaint = meeting.complaint() if meeting is not None else ""
            if complaint and self._child.is_alive():
                print(f"another node failed: {complaint}", flush=True)
                self._child.join(30)
                self._child.terminate()
                self._child.join()

    @property
    def _child_failed(self) -> bool:
        return self._child is None or self._child.exitcode != 0


class Meeting:
    """How the nodes of a job agree on what to run, through files beside the record of the job."""

    def __init__(self, what: StageOf, environment: submitit.JobEnvironment) -> None:
        """Take the stage and the job."""
        folder = Records(what.root / what.output).folder
        self._call, self._complaint = folder / f"{what.name}.call", folder / f"{what.name}.complaint"
        self._processes = what.graph[what.name].resources.processes
        self._num_nodes = environment.num_nodes
        restarts = os.environ.get("SLURM_RESTART_COUNT", "0")
        self._life = f"{environment.raw_job_id}.{restarts}"
        self._host = rendezvous_host(environment.hostnames[0])
        # Jobs that share a machine, and lives of one job, do not meet each other.
        self._port = 20000 + (7 * int(environment.raw_job_id) + int(restarts)) % 10000

    def launcher(self, rank: int) -> list[str]:
        """Return the words that start one node's processes; the first node of the allocation is where all meet."""
        words = ["torchrun", "--nnodes", self._num_nodes, "--node-rank", rank, "--nproc-per-node", self._processes]
        words += ["--rdzv-backend", "static", "--rdzv-endpoint", f"{self._host}:{self._port}", "--rdzv-id", self._life]
        return [str(word) for word in words]

    def call(self, is_needed: bool) -> None:
        """Tell the other nodes whether there is something to run; said by the first."""
        write_json(self._call, {"life": self._life, "is_needed": is_needed})

    def is_called(self) -> bool:
        """Wait until the first node has said whether there is something to run."""
        while (said := self._read(self._call)) is None:
            time.sleep(LOOK_S)
        return bool(said["is_needed"])

    def complain(self, rank: int, why: str) -> None:
        """Tell the first node that another one failed."""
        write_json(self._complaint, {"life": self._life, "why": f"node {rank}, {why}"})

    def complaint(self) -> str:
        """Return what another node complains of; empty for nothing."""
        said = self._read(self._complaint)
        return str(said["why"]) if said is not None else ""

    def _read(self, path: Path) -> dict[str, object] | None:
        """Return what was said in this life of the job."""
        try:
            said: dict[str, object] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return said if said.get("life") == self._life else None


def in_child(action: Callable[[], bool], masked: set[signal.Signals]) -> None:
    """Run an action; exit with 0 when it returns true, else with 1, and with 143 after SIGTERM."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        # Once: a second one would end the wait for the program's own end.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise Interrupted("told to stop")

    # The warning goes to every process of the job and would end them: ignored here, it is in all that start from here.
    signal.signal(warning_signal(), signal.SIG_IGN)
    signal.signal(signal.SIGTERM, stop)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, masked)
    # torchrun gives its processes 30 s by default, which a large checkpoint takes longer than.
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", f"{GRACE_S - 10:.0f}")
    try:
        is_done = action()
    except Interrupted:
        sys.exit(STOPPED)
    except UserError as error:
        print(error, flush=True)
        sys.exit(1)
    sys.exit(0 if is_done else 1)


def run_one(runner: LocalRunner, name: str, launcher: list[str] | None) -> bool:
    """Run a stage; return whether it is done."""
    is_requeued = os.environ.get("SLURM_RESTART_COUNT", "0") != "0"
    deadline = time.monotonic() + (LOCK_S if is_requeued else 0)
    while True:
        try:
            return runner.run_one(name, launcher).state == "done"
        except ConfigError as error:
            if time.monotonic() > deadline:
                raise
            print(f"waiting: {error}", flush=True)
            time.sleep(5)


def run_all(commands: list[list[str]], log: Path, root: Path) -> bool:
    """Run programs one after the other; return true, or raise what `run_program` raises."""
    for words in commands:
        run_program(words, log, folder=root)
    return True


def rendezvous_host(first: str) -> str:
    """Return an address of the first node: its name, or where Slurm reaches it when the name is Slurm's alone."""
    try:
        socket.getaddrinfo(first, None)
    except OSError:
        return os.environ.get("SLURM_LAUNCH_NODE_IPADDR", first)
    return first


def requeue(job: str, limit: int) -> None:
    """Put this job back into the queue and wait for the end that Slurm makes of it.

    Raises:
        StageFailed: when it was requeued too often, or Slurm refuses.
    """
    restarts = int(os.environ.get("SLURM_RESTART_COUNT", "0"))
    if restarts >= limit:
        raise StageFailed(f"stopped after {restarts} requeues; the file of jobs sets `requeues`")
    result = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, timeout=60)
    if result.returncode != 0:
        raise StageFailed(f"told to stop, and not requeued: {result.stderr.strip()}")
    print(f"told to stop; job {job} is requeued", flush=True)
    time.sleep(600)


def warning_signal() -> signal.Signals:
    """Return what submitit has Slurm send before the time limit."""
    found: signal.Signals = getattr(signal, f"SIG{submitit.JobEnvironment.USR_SIG}")
    return found
