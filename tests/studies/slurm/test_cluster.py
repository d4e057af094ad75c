"""Stages as jobs of a real slurmctld and two slurmd: in order, killed, requeued, failing, and on two nodes at once."""

import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("submitit")

from megatron_sft.errors import ConfigError
from megatron_sft.stages.graph import Graph, Resources, Stage
from megatron_sft.stages.local import LocalRunner
from megatron_sft.stages.marks import Mark
from megatron_sft.studies.slurm.options import JobSpec, SlurmSpec
from megatron_sft.studies.slurm.queue import Records
from megatron_sft.studies.slurm.runner import SlurmRunner
from tests.studies.slurm.cluster import Cluster, wait_for, why_not

SPEC = SlurmSpec(poll_s=0.3, warning_s=60, all=JobSpec(hours=0.2))
APPEND = "import sys; open(sys.argv[1], 'a').write(sys.argv[2] + '\\n')"


@pytest.fixture(scope="module")
def shared_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two nodes, as long as this file's tests run."""
    if reason := why_not():
        pytest.skip(reason)
    with Cluster(tmp_path_factory.mktemp("slurm")).up() as cluster:
        yield cluster


@pytest.fixture
def cluster(shared_cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """The same, with this process's commands going there."""
    monkeypatch.setenv("SLURM_CONF", str(shared_cluster.configuration))
    return shared_cluster


def appending(name: str, *after: str, **more: Any) -> Stage:
    """A stage that appends a line to its output, so that a second run of it shows."""
    words = (sys.executable, "-c", APPEND, f"{{output}}/{name}.txt", name)
    facts: dict[str, Any] = {"kind": "data", "title": name, "commands": (words,), "after": after}
    return Stage(name=name, **(facts | {"outputs": (f"{{output}}/{name}.txt",)} | more))


def failing(name: str, *after: str) -> Stage:
    words = (sys.executable, "-c", "print('so far'); raise SystemExit('something broke')")
    return appending(name, *after, commands=(words,))


def run(folder: Path, *stages: Stage, spec: SlurmSpec = SPEC) -> dict[str, Mark]:
    graph = Graph(stages)
    return SlurmRunner(graph, folder, spec).run([stage.name for stage in graph])


def states(marks: dict[str, Mark]) -> dict[str, str]:
    return {name: mark.state for name, mark in marks.items()}


def contents(folder: Path) -> dict[str, str]:
    return {path.stem: path.read_text() for path in sorted(folder.glob("*.txt"))}


def test_stages_run_in_order_and_once(cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parts = [appending(f"part-{number}", "start", kind="evaluate") for number in range(3)]
    stages = [appending("start"), *parts, appending("end", *(part.name for part in parts), kind="report")]
    marks = run(tmp_path, *stages)
    assert states(marks) == dict.fromkeys(["start", "part-0", "part-1", "part-2", "end"], "done")
    assert contents(tmp_path) == {name: f"{name}\n" for name in marks}
    records = Records(tmp_path)
    jobs = {name: record.job for name in marks if (record := records.read(name)) is not None}
    array = jobs["part-0"].partition("_")[0]
    assert [jobs[f"part-{number}"] for number in range(3)] == [f"{array}_{number}" for number in range(3)]
    assert len({job.partition("_")[0] for job in jobs.values()}) == 3
    local = LocalRunner(Graph(stages), tmp_path).verdicts()
    assert {verdict.decision for verdict in local.values()} == {"done"}
    capsys.readouterr()
    before = len(cluster.queue())
    run(tmp_path, *stages)
    assert "submitted" not in capsys.readouterr().out
    assert len(cluster.queue()) == before


def test_a_failure_blocks_what_depends_on_it_alone(cluster: Cluster, tmp_path: Path) -> None:
    stages = [appending("good"), failing("bad"), appending("after-bad", "bad"), appending("last", "after-bad")]
    stages += [appending("after-good", "good"), appending("summary", "last", "after-good", is_tolerant=True)]
    marks = run(tmp_path, *stages)
    assert states(marks) == {
        "good": "done",
        "bad": "failed",
        "after-bad": "blocked",
        "last": "blocked",
        "after-good": "done",
        "summary": "done",
    }
    assert "something broke" in marks["bad"].why
    assert marks["last"].why == "after-bad is blocked"
    assert sorted(contents(tmp_path)) == ["after-good", "good", "summary"]
    # Mended, what was missing is done, and nothing else.
    stages[1] = appending("bad")
    assert set(states(run(tmp_path, *stages)).values()) == {"done"}
    assert contents(tmp_path) == {name: f"{name}\n" for name in marks}


# Counts to 20, a file a step, as a training with its checkpoints does; goes on where it was; 143 after SIGTERM.
COUNTING = """
import pathlib, signal, sys, time
def stop(*_):
    folder.joinpath("stopped").write_text(f"{step}")
    raise SystemExit(143)
signal.signal(signal.SIGTERM, stop)
folder = pathlib.Path(sys.argv[1])
folder.mkdir(exist_ok=True)
lives = folder / "lives"
lives.write_text((lives.read_text() if lives.exists() else "") + "x")
for step in range(len(list(folder.glob("step-*"))), 20):
    time.sleep(0.2)
    folder.joinpath(f"step-{step:02}").write_text(f"{step}")
folder.joinpath("done").write_text("")
"""


def counting(name: str, *after: str) -> Stage:
    words = (sys.executable, "-c", COUNTING, f"{{output}}/{name}")
    return appending(name, *after, kind="train", commands=(words,), outputs=(f"{{output}}/{name}/done",))


class Background:
    """A run that goes on while the test does something to it."""

    def __init__(self, folder: Path, *stages: Stage) -> None:
        self.marks: dict[str, Mark] = {}
        self._thread = threading.Thread(target=lambda: self.marks.update(run(folder, *stages)))
        self._thread.start()

    def end(self) -> dict[str, Mark]:
        self._thread.join(120)
        assert not self._thread.is_alive()
        return self.marks


def is_past(folder: Path, step: int) -> bool:
    return (folder / f"step-{step:02}").exists()


def wait_past(folder: Path, step: int, cluster: Cluster) -> None:
    wait_for(lambda: is_past(folder, step), 60, cluster.logs)


def test_a_job_that_nears_its_time_limit_goes_on_in_a_further_one(cluster: Cluster, tmp_path: Path) -> None:
    running = Background(tmp_path, counting("long"), appending("end", "long"))
    wait_past(tmp_path / "long", 3, cluster)
    job, _ = cluster.job("long")
    # What Slurm sends at the time limit less `warning_s`.
    cluster.run("scancel", "--signal=USR2", job)
    assert states(running.end()) == {"long": "done", "end": "done"}
    assert (tmp_path / "long" / "lives").read_text() == "xx"
    assert int((tmp_path / "long" / "stopped").read_text()) in range(4, 19), "it was told to stop, and saved"
    assert [row[3] for row in cluster.queue() if row[0] == job] == ["1"]


def test_a_job_that_is_requeued_goes_on(cluster: Cluster, tmp_path: Path) -> None:
    running = Background(tmp_path, counting("preempted"), appending("end", "preempted"))
    wait_past(tmp_path / "preempted", 3, cluster)
    cluster.run("scontrol", "requeue", cluster.job("preempted")[0])
    assert states(running.end()) == {"preempted": "done", "end": "done"}
    assert (tmp_path / "preempted" / "lives").read_text() == "xx"
    assert (tmp_path / "preempted" / "stopped").exists()


def test_a_lost_node(cluster: Cluster, tmp_path: Path) -> None:
    running = Background(tmp_path, counting("unlucky"), appending("end", "unlucky"))
    wait_past(tmp_path / "unlucky", 3, cluster)
    job, _ = cluster.job("unlucky")
    node = cluster.run("squeue", "-h", "-j", job, "-o", "%N")
    cluster.lose(node)
    try:
        assert states(running.end()) == {"unlucky": "done", "end": "done"}
    finally:
        cluster.give_back(node)
    assert (tmp_path / "unlucky" / "lives").read_text() == "xx"
    assert not (tmp_path / "unlucky" / "stopped").exists(), "nobody told it"


def test_a_killed_program_fails_and_the_next_call_goes_on(cluster: Cluster, tmp_path: Path) -> None:
    stages = [counting("killed"), appending("end", "killed")]
    running = Background(tmp_path, *stages)
    wait_past(tmp_path / "killed", 3, cluster)
    cluster.run("scancel", "--signal=KILL", cluster.job("killed")[0])
    marks = running.end()
    assert states(marks) == {"killed": "failed", "end": "blocked"}
    assert "FAILED" in marks["killed"].why
    assert states(run(tmp_path, *stages)) == {"killed": "done", "end": "done"}
    assert (tmp_path / "killed" / "lives").read_text() == "xx"


def test_a_cancelled_job_stays_cancelled(cluster: Cluster, tmp_path: Path) -> None:
    running = Background(tmp_path, counting("unwanted"))
    wait_past(tmp_path / "unwanted", 3, cluster)
    cluster.run("scancel", cluster.job("unwanted")[0])
    marks = running.end()
    assert states(marks) == {"unwanted": "failed"}
    assert "CANCELLED" in marks["unwanted"].why
    assert (tmp_path / "unwanted" / "lives").read_text() == "x"


def test_a_second_call_finds_the_jobs_of_the_first(
    cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    graph = Graph([counting("slow"), appending("end", "slow")])
    first = SlurmRunner(graph, tmp_path, SPEC).run(["slow", "end"], is_waiting=False)
    assert "done" not in states(first).values()
    output = capsys.readouterr().out
    assert output.count("submitted") == 2 and "scancel" in output
    assert states(SlurmRunner(graph, tmp_path, SPEC).run(["slow", "end"])) == {"slow": "done", "end": "done"}
    assert "submitted" not in capsys.readouterr().out
    assert (tmp_path / "slow" / "lives").read_text() == "x"


def test_a_changed_stage_whose_job_is_in_the_queue(cluster: Cluster, tmp_path: Path) -> None:
    SlurmRunner(Graph([counting("slow")]), tmp_path, SPEC).run(["slow"], is_waiting=False)
    changed = replace(counting("slow"), settings={"speed": 2})
    job, _ = cluster.job("slow")
    with pytest.raises(ConfigError, match=f"scancel {job}"):
        SlurmRunner(Graph([changed]), tmp_path, SPEC).run(["slow"])
    cluster.run("scancel", job)
