"""Submits the stages of a graph as jobs, finds those that are in the queue already, and watches them."""

import contextlib
import json
import os
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError

from megatron_sft.errors import ConfigError, DataError, EnvironmentProblem, Interrupted
from megatron_sft.stages.graph import Graph, Stage
from megatron_sft.stages.local import LOGS, LocalRunner, Verdict, locked
from megatron_sft.stages.marks import Mark, key_of
from megatron_sft.stages.programs import ROOT
from megatron_sft.studies.running.slurm.job import StageJob, StageOf
from megatron_sft.studies.running.slurm.options import SlurmSpec
from megatron_sft.studies.running.slurm.queue import QueuedJob, Record, Records, final_states, look

NUM_LOOKS = 2
"""A job is over when it is not in the queue so many times: a mark may come late through a shared file system."""


@dataclass(frozen=True, kw_only=True)
class Status:
    """Where a stage stands."""

    word: str
    """done, failed, blocked, or Slurm's word for the state of its job in small letters."""
    job: str = ""
    """Id of its job; empty without one."""
    note: str = ""
    """Nodes, or what it waits for, or why it failed."""

    @property
    def is_final(self) -> bool:
        """Whether nothing more happens to it."""
        return self.word in ("done", "failed", "blocked")


class SlurmRunner:
    """Runs stages of one graph in one folder, each as a job."""

    def __init__(self, graph: Graph, output: Path, spec: SlurmSpec, *, root: Path = ROOT) -> None:
        """Take a graph, the run's folder, which all nodes see, and what jobs ask for; nothing is read yet."""
        self._graph, self._output, self._spec, self._root = graph, output, spec, root
        self._local = LocalRunner(graph, output, root=root)
        self._folder = root / output
        self._records = Records(self._folder)

    def run(self, names: Collection[str], *, is_waiting: bool = True) -> dict[str, Mark]:
        """Submit these stages and watch them to their end.

        Args:
            names: the stages; what is done, or in the queue already, is not submitted again.
            is_waiting: whether to stay until no job is left.

        Returns:
            Marks as they are on file at the end; stages that were not reached have none.

        Raises:
            ConfigError: when a job is in the queue for what the stage was before a change.
            EnvironmentProblem: when Slurm refuses a job, or does not answer.
            KeyboardInterrupt, Interrupted: after Ctrl-C or SIGTERM; the jobs stay.
        """
        self._records.folder.mkdir(parents=True, exist_ok=True)
        with locked(self._records.folder / ".lock"):
            self._submit(names)
        ordered = [stage.name for stage in self._graph if stage.name in names]
        try:
            statuses = self._watch(ordered) if is_waiting else self._show(ordered)
        except (KeyboardInterrupt, Interrupted):
            print(f"\nThe jobs go on; the same command watches them. {self._how_to_cancel(ordered)}", flush=True)
            raise
        if is_waiting:
            self._file(statuses)
        else:
            print(f"The same command without --no-wait watches them. {self._how_to_cancel(ordered)}", flush=True)
        marks = {name: self._local.marks.read(name) for name in ordered}
        return {name: mark for name, mark in marks.items() if mark is not None}

    # Submitting

    def _submit(self, names: Collection[str]) -> None:
        keys, verdicts, queue = self._keys(), self._local.verdicts(), look()
        jobs: dict[str, str] = {}
        lost: set[str] = set()
        levels: dict[int, list[tuple[Stage, list[str]]]] = {}
        level: dict[str, int] = {}
        for stage in self._graph:
            # What made do with less is done afresh when a stage before it comes to be done.
            is_same = not any(name in jobs or name in level for name in stage.after)
            if verdicts[stage.name].decision == "done" and is_same:
                continue
            record = self._live_record(stage.name, queue)
            if record is not None:
                if record.key != keys[stage.name] and stage.name in names:
                    raise ConfigError(
                        f"{stage.name}: job {record.job} is in the queue for it, and something has changed since; "
                        f"scancel {record.job}, then start again"
                    )
                jobs[stage.name] = record.job
                continue
            missing = [name for name in stage.after if name in lost]
            is_possible = not missing or (stage.is_tolerant and len(missing) < len(stage.after))
            if stage.name not in names or keys[stage.name] is None or not is_possible:
                lost.add(stage.name)
                continue
            before = [name for name in stage.after if name in jobs or name in level]
            level[stage.name] = 1 + max((level.get(name, -1) for name in before), default=-1)
            levels.setdefault(level[stage.name], []).append((stage, before))
        for number in sorted(levels):
            self._submit_level(levels[number], jobs, keys)

    def _submit_level(
        self, stages: Sequence[tuple[Stage, list[str]]], jobs: dict[str, str], keys: Mapping[str, str | None]
    ) -> None:
        """Submit stages that do not depend on each other; those that ask for the same are one array."""
        groups: dict[str, tuple[dict[str, Any], list[Stage]]] = {}
        for stage, before in stages:
            parameters = self._spec.parameters(stage)
            if before:
                # A stage that makes do with what is done waits until all others are over, however they end.
                condition = "afterany" if stage.is_tolerant else "afterok"
                parameters["dependency"] = ":".join([condition, *sorted({jobs[name] for name in before})])
            text = json.dumps([stage.kind, parameters], sort_keys=True)
            groups.setdefault(text, (parameters, []))[1].append(stage)
        for parameters, group in groups.values():
            for stage, job in zip(group, self._submit_group(parameters, group), strict=True):
                key = keys[stage.name]
                assert key is not None
                jobs[stage.name] = job
                now = datetime.now(tz=UTC).isoformat(timespec="seconds")
                self._records.write(stage.name, Record(job=job, key=key, submitted=now))

    def _submit_group(self, parameters: Mapping[str, Any], group: Sequence[Stage]) -> list[str]:
        executor = submitit.SlurmExecutor(
            self._records.folder / "jobs", max_num_timeout=self._spec.requeues, python=self._spec.python
        )
        title = group[0].name if len(group) == 1 else f"{group[0].kind} ({len(group)})"
        lines = [*(parameters["setup"] or []), f"export PYTHONPATH={ROOT}${{PYTHONPATH:+:$PYTHONPATH}}"]
        executor.update_parameters(**{**parameters, "setup": lines, "job_name": title, "wckey": None})
        whats = [
            StageOf(
                name=stage.name,
                graph=self._graph,
                output=self._output,
                root=self._root,
                requeues=self._spec.requeues,
            )
            for stage in group
        ]
        try:
            with _as_from_outside():
                jobs = executor.submit_array([StageJob(what) for what in whats])
        except (FailedJobError, FailedSubmissionError) as error:
            raise EnvironmentProblem(f"sbatch refuses {', '.join(stage.name for stage in group)}: {error}") from error
        ids = [job.job_id for job in jobs]
        shown = [f"{what.name} ({job})" for what, job in zip(whats, ids, strict=True)]
        print(f"submitted {', '.join(shown)}", flush=True)
        return ids

    def _keys(self) -> dict[str, str | None]:
        """Return the keys that stages will have when all before them are done; None where an input is missing."""
        keys: dict[str, str | None] = {}
        for stage in self._graph:
            try:
                keys[stage.name] = key_of(self._local.marks.parts_of(stage, keys, self._root))
            except DataError:
                keys[stage.name] = None
        return keys

    def _live_record(self, name: str, queue: Mapping[str, QueuedJob]) -> Record | None:
        record = self._records.read(name)
        job = queue.get(record.job) if record is not None else None
        return record if job is not None and job.is_live else None

    # Watching

    def _watch(self, names: Sequence[str]) -> dict[str, Status]:
        shown: dict[str, Status] = {}
        gone: Counter[str] = Counter()
        counts = ""
        while True:
            try:
                statuses = self._statuses(names, gone)
            except EnvironmentProblem as error:
                print(f"{_clock()} {error}; asking again", flush=True)
                time.sleep(self._spec.poll_s)
                continue
            for name, status in statuses.items():
                is_news = shown.get(name) != status if shown else status.word != "done"
                if is_news and status.word != "ending":
                    print(f"{_clock()} {_line(name, status)}", flush=True)
            shown = statuses
            if (text := _counted(statuses)) != counts:
                counts = text
                print(f"{_clock()} {counts}", flush=True)
            if all(status.is_final for status in statuses.values()):
                return statuses
            time.sleep(self._spec.poll_s)

    def _show(self, names: Sequence[str]) -> dict[str, Status]:
        statuses = self._statuses(names, Counter(dict.fromkeys(names, NUM_LOOKS)))
        for name, status in statuses.items():
            print(_line(name, status), flush=True)
        print(_counted(statuses), flush=True)
        return statuses

    def _statuses(self, names: Sequence[str], gone: Counter[str]) -> dict[str, Status]:
        """Return where stages stand; `gone` counts the looks in which a job was over without its stage being done."""
        queue, verdicts = look(), self._local.verdicts()
        found: dict[str, Status] = {}
        for name in names:
            record = self._records.read(name)
            queued = queue.get(record.job) if record is not None else None
            if record is not None and queued is not None and queued.is_live:
                found[name] = _live(record.job, queued)
            elif verdicts[name].decision == "done":
                found[name] = Status(word="done")
            else:
                gone[name] += 1
                if record is not None and gone[name] < NUM_LOOKS:
                    found[name] = Status(word="ending", job=record.job)
                else:
                    found[name] = self._over(verdicts[name], record, queued, found)
        return found

    def _over(
        self, verdict: Verdict, record: Record | None, queued: QueuedJob | None, before: Mapping[str, Status]
    ) -> Status:
        """Say why a stage without a job is not done."""
        stage, mark = verdict.stage, verdict.mark
        job = record.job if record is not None else ""
        bad = [one for one in stage.after if one in before and before[one].word in ("failed", "blocked")]
        if bad and not (stage.is_tolerant and len(bad) < len(stage.after)):
            return Status(word="blocked", note=f"{bad[0]} is {before[bad[0]].word}")
        if mark is not None and mark.state == "failed" and (record is None or mark.ended >= record.submitted):
            return Status(word="failed", job=job, note=mark.why)
        if record is None or verdict.decision in ("waits", "blocked"):
            return Status(word="blocked", note=verdict.why or "not submitted")
        state = queued.state if queued is not None else final_states([job]).get(job, "no longer in the queue")
        return Status(word="failed", job=job, note=f"Slurm job {job}: {state}; see {self._log(stage.name, job)}")

    def _log(self, name: str, job: str) -> Path:
        own = self._folder / LOGS / f"{name}.log"
        return own if own.exists() else self._records.folder / "jobs" / f"{job}_0_log.out"

    def _file(self, statuses: Mapping[str, Status]) -> None:
        """Write the marks of stages whose jobs could not: those that were killed, and those that never began."""
        for name, status in statuses.items():
            mark, stage = self._local.marks.read(name), self._graph[name]
            if status.word not in ("failed", "blocked") or (mark is not None and mark.why == status.note):
                continue
            mark = mark or Mark(key="", parts={}, state="blocked", kind=stage.kind, title=stage.title)
            mark = replace(mark, state="failed" if status.word == "failed" else "blocked", why=status.note)
            self._local.marks.write(name, mark)

    def _how_to_cancel(self, names: Sequence[str]) -> str:
        try:
            queue = look()
        except EnvironmentProblem as error:
            return f"{error}; squeue --me shows them."
        records = [record for name in names if (record := self._live_record(name, queue)) is not None]
        return f"To cancel: scancel {' '.join(record.job for record in records)}" if records else "No job is left."


def _live(job: str, queued: QueuedJob) -> Status:
    is_waiting = queued.state == "PENDING" and queued.reason not in ("None", "")
    return Status(word=queued.state.lower(), job=job, note=queued.reason if is_waiting else queued.nodes)


def _line(name: str, status: Status) -> str:
    rest = ", ".join(filter(None, [f"job {status.job}" if status.job else "", status.note.strip()]))
    return f"{name}: {status.word}" + (f" ({rest})" if rest and "\n" not in rest else f": {rest}" if rest else "")


def _counted(statuses: Mapping[str, Status]) -> str:
    counts = Counter(status.word for status in statuses.values())
    words = ", ".join(f"{number} {word}" for word, number in counts.most_common())
    return f"{len(statuses)} stage{'s' * (len(statuses) > 1)}: {words}"


def _clock() -> str:
    return time.strftime("%H:%M:%S")


@contextlib.contextmanager
def _as_from_outside() -> Iterator[None]:
    """Submit from inside a job as from outside: sbatch would take over what that job asked for."""
    prefixes = ("SLURM_", "SLURMD_", "SRUN_", "SUBMITIT_")
    inside = "SLURM_JOB_ID" in os.environ
    taken = {name for name in os.environ if inside and name.startswith(prefixes) and name != "SLURM_CONF"}
    kept = {name: os.environ.pop(name) for name in taken}
    try:
        yield
    finally:
        os.environ.update(kept)
