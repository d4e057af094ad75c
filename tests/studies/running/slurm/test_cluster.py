"""Stages as jobs of a real slurmctld and two slurmd: in order, killed, requeued, failing, and on two nodes at once."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("submitit")

from megatron_sft.errors import ConfigError, EnvironmentProblem
from megatron_sft.stages.graph import LAUNCHER, Graph, Resources, Stage
from megatron_sft.stages.local import LocalRunner
from megatron_sft.stages.marks import Mark
from megatron_sft.studies.running.slurm.options import JobSpec, SlurmSpec
from megatron_sft.studies.running.slurm.queue import Records
from megatron_sft.studies.running.slurm.runner import SlurmRunner
from tests.studies.running.slurm.cluster import Cluster, wait_for, why_not

SPEC = SlurmSpec(poll_s=0.3, warning_s=60, all=JobSpec(hours=0.2))
ROOT = Path(__file__).resolve().parents[4]
MINI = ROOT / "tests" / "studies" / "mini.yaml"
APPEND = "import sys; open(sys.argv[1], 'a').write(sys.argv[2] + '\\n')"


pytestmark = pytest.mark.slow
is_opted_in = pytest.mark.skipif("MEGATRON_SFT_SLURM" not in os.environ, reason="minutes: set MEGATRON_SFT_SLURM=1")


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
# Held, it waits behind its second step until it is let go, for a minute at most.
COUNTING = """
import os, pathlib, signal, sys, time
def stop(*_):
    folder.joinpath("stopped").write_text(f"{step}")
    raise SystemExit(143)
signal.signal(signal.SIGTERM, stop)
folder = pathlib.Path(sys.argv[1])
folder.mkdir(exist_ok=True)
folder.joinpath("pid").write_text(str(os.getpid()))
lives = folder / "lives"
lives.write_text((lives.read_text() if lives.exists() else "") + "x")
for step in range(len(list(folder.glob("step-*"))), 20):
    time.sleep(0.2)
    folder.joinpath(f"step-{step:02}").write_text(f"{step}")
    end = time.monotonic() + 60
    while step == 1 and sys.argv[2:] == ["held"] and not folder.joinpath("go").exists() and time.monotonic() < end:
        time.sleep(0.1)
folder.joinpath("done").write_text("")
"""


def counting(name: str, *after: str, is_held: bool = False) -> Stage:
    words = (sys.executable, "-c", COUNTING, f"{{output}}/{name}", *(["held"] if is_held else []))
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


def test_what_befalls_jobs(cluster: Cluster, tmp_path: Path) -> None:
    fates = ["warned", "requeued", "preempted", "killed", "cancelled", "left-alone"]
    stages = [*map(counting, fates), *(appending(f"after-{fate}", fate) for fate in fates)]
    running = Background(tmp_path, *stages)
    for fate in fates:
        wait_for(lambda: (tmp_path / fate / "step-03").exists(), 60, cluster.logs)  # noqa: B023
    records = Records(tmp_path)
    jobs = {fate: record.job for fate in fates if (record := records.read(fate)) is not None}
    assert sorted(job.partition("_")[2] for job in jobs.values()) == list("012345"), "they are one array"
    # What Slurm sends at the time limit less `warning_s`: to every process of the job.
    cluster.run("scancel", "--signal=USR2", jobs["warned"])
    cluster.run("scontrol", "requeue", jobs["requeued"])
    # What comes before a preemption, where the cluster has a time of grace.
    cluster.run("scancel", "--signal=TERM", jobs["preempted"])
    os.kill(int((tmp_path / "killed" / "pid").read_text()), signal.SIGKILL)
    cluster.run("scancel", jobs["cancelled"])
    marks = running.end()
    assert [marks[fate].state for fate in fates] == ["done"] * 3 + ["failed", "failed", "done"]
    assert [marks[f"after-{fate}"].state for fate in fates] == ["done"] * 3 + ["blocked", "blocked", "done"]
    assert "exit status -9" in marks["killed"].why
    assert "CANCELLED" in marks["cancelled"].why
    assert marks["after-killed"].why == "killed is failed"
    lives = [len((tmp_path / fate / "lives").read_text()) for fate in fates]
    assert lives == [2, 2, 2, 1, 1, 1]
    told = [fate for fate in fates if (tmp_path / fate / "stopped").exists()]
    assert told == ["warned", "requeued", "preempted", "cancelled"]
    # The next call goes on with both that did not end.
    assert set(states(run(tmp_path, *stages)).values()) == {"done"}
    assert [len((tmp_path / fate / "lives").read_text()) for fate in fates] == [2, 2, 2, 2, 2, 1]


def test_a_job_that_slurm_refuses(cluster: Cluster, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match=r"sbatch refuses a: .*invalid partition"):
        run(tmp_path, appending("a"), spec=replace(SPEC, all=JobSpec(partition="nowhere")))


@is_opted_in
def test_a_lost_node(cluster: Cluster, tmp_path: Path) -> None:
    running = Background(tmp_path, counting("unlucky"), appending("end", "unlucky"))
    wait_for(lambda: (tmp_path / "unlucky" / "step-03").exists(), 60, cluster.logs)
    job, _ = cluster.job("unlucky")
    node = cluster.run("squeue", "-h", "-j", job, "-o", "%N")
    cluster.lose(node)
    try:
        assert states(running.end()) == {"unlucky": "done", "end": "done"}
    finally:
        cluster.give_back(node)
    assert (tmp_path / "unlucky" / "lives").read_text() == "xx"
    assert not (tmp_path / "unlucky" / "stopped").exists(), "nobody told it"


def test_a_second_call_finds_the_jobs_of_the_first(
    cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    graph = Graph([counting("slow", is_held=True), appending("end", "slow")])

    def press_ctrl_c() -> None:
        wait_for(lambda: (tmp_path / "slow" / "step-01").exists(), 60, cluster.logs)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press_ctrl_c).start()
    # Shells start what runs in the background with SIGINT ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            SlurmRunner(graph, tmp_path, SPEC).run(["slow", "end"])
    finally:
        signal.signal(signal.SIGINT, before)
    jobs = [cluster.job(name)[0] for name in ("slow", "end")]
    output = capsys.readouterr().out
    assert output.count("submitted") == 2
    assert f"To cancel: scancel {jobs[0]} {jobs[1]}" in output
    SlurmRunner(graph, tmp_path, SPEC).run(["slow", "end"], is_waiting=False)
    assert f"slow: running (job {jobs[0]}" in capsys.readouterr().out
    (tmp_path / "slow" / "go").touch()
    assert states(SlurmRunner(graph, tmp_path, SPEC).run(["slow", "end"])) == {"slow": "done", "end": "done"}
    assert "submitted" not in capsys.readouterr().out
    assert (tmp_path / "slow" / "lives").read_text() == "x"


def test_a_changed_stage_whose_job_is_in_the_queue(cluster: Cluster, tmp_path: Path) -> None:
    slow = counting("slow", is_held=True)
    SlurmRunner(Graph([slow]), tmp_path, SPEC).run(["slow"], is_waiting=False)
    changed = replace(slow, settings={"speed": 2})
    job, _ = cluster.job("slow")
    with pytest.raises(ConfigError, match=f"scancel {job}"):
        SlurmRunner(Graph([changed]), tmp_path, SPEC).run(["slow"])
    cluster.run("scancel", job)


# Every rank says where it runs; the first one files it.
MEETING = """
import os, pathlib, sys
import torch.distributed as dist
dist.init_process_group("gloo")
found = [None] * dist.get_world_size()
dist.all_gather_object(found, os.environ["SLURMD_NODENAME"])
if dist.get_rank() == 0:
    pathlib.Path(sys.argv[1]).write_text(" ".join(found))
dist.destroy_process_group()
"""


@is_opted_in
def test_a_training_on_two_nodes(cluster: Cluster, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    program = tmp_path / "meet.py"
    program.write_text(MEETING)
    where = "{output}/where.txt"
    words = (LAUNCHER, str(program), where)
    resources = Resources(nodes=2)
    stages = [
        appending("meet", kind="train", commands=(words,), outputs=(where,), resources=resources),
        appending("end", "meet"),
    ]
    assert states(run(tmp_path, *stages)) == {"meet": "done", "end": "done"}
    assert (tmp_path / "where.txt").read_text() == "node0 node1"


@is_opted_in
def test_a_node_that_fails_ends_the_others(cluster: Cluster, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    program = tmp_path / "meet.py"
    program.write_text(f"import os\nif os.environ['RANK'] == '1':\n    raise SystemExit('no such device')\n{MEETING}")
    words = (LAUNCHER, str(program), "{output}/where.txt")
    stages = [
        appending("meet", kind="train", commands=(words,), resources=Resources(nodes=2)),
        appending("end", "meet"),
    ]
    marks = run(tmp_path, *stages)
    assert states(marks) == {"meet": "failed", "end": "blocked"}
    assert "node-1.log" in marks["meet"].why
    assert "no such device" in (tmp_path / "logs" / "meet.node-1.log").read_text()


TRAINING = ("iteration", "loss", "grad_norm", "lr")
JOBS = """
poll_s: 1
all: {hours: 1}
# One at a time: engines and trainings take the machine's memory and cores.
models: {nodes: 2, cpus_per_task: 4}
train: {nodes: 2, cpus_per_task: 4, at_a_time: 1}
evaluate: {cpus_per_task: 4, sbatch: {nodelist: node0}}
"""


def study(*words: object) -> subprocess.Popen[bytes]:
    """tools/run_study on the smallest study, its trainings a little longer."""
    command = [sys.executable, "-m", "megatron_sft.studies", MINI, "--trial", "10", "40", *words]
    variables = {"PYTHONPATH": str(ROOT), "VLLM_CPU_KVCACHE_SPACE": "1"}
    return subprocess.Popen([str(word) for word in command], cwd=ROOT, env=os.environ | variables)


def num_lines(path: Path) -> int:
    return len(path.read_text().splitlines()) if path.exists() else 0


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@is_opted_in
def test_a_study_that_loses_a_node_equals_an_undisturbed_one(cluster: Cluster, tmp_path: Path) -> None:
    """Two arms, each trained on two nodes; one training loses a node, the other one its time."""
    pytest.importorskip("megatron.core")
    pytest.importorskip("vllm")
    jobs, processes = tmp_path / "jobs.yaml", tmp_path / "processes.yaml"
    jobs.write_text(JOBS)
    # As many processes in all as on two nodes.
    processes.write_text("num_processes: 2\n")
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    with study("--output", whole, "--run", processes, "--stage", "data", "models", "train") as undisturbed:
        assert undisturbed.wait(1200) == 0
    stages = ["data", "models", "train", "convert", "evaluate"]
    metrics = {arm: broken / "train" / arm / "metrics.jsonl" for arm in ("with-traces", "without")}
    with study("--output", broken, "--executor", "slurm", "--slurm", jobs, "--stage", *stages) as running:
        first, second = waiting_order(metrics, cluster)
        wait_for(lambda: num_lines(metrics[first]) >= 12, 600, cluster.logs)
        cluster.lose("node1")
        cluster.give_back("node1")
        wait_for(lambda: num_lines(metrics[second]) >= 5, 600, cluster.logs)
        cluster.run("scancel", "--signal=USR2", cluster.job(f"train-{second}")[0])
        assert running.wait(1800) == 0
    restarts = {row[1]: row[3] for row in cluster.queue()}
    for arm in metrics:
        assert restarts.get(f"train-{arm}", "1") == "1"
        found = [read_lines(folder / "train" / arm / "metrics.jsonl") for folder in (whole, broken)]
        values = [[[line[name] for name in TRAINING] for line in lines] for lines in found]
        assert len(values[0]) == len(values[1]) == 40
        # To rounding: how sums are ordered depends on where the arrays lie in memory.
        assert np.allclose(values[1], values[0], rtol=1e-5, atol=0)
        assert "resuming after iteration" in (broken / "logs" / f"train-{arm}.log").read_text()
    for part, steps in (("base/tiny", [0]), ("arms/with-traces", [10, 40]), ("arms/without", [10, 40])):
        results = json.loads((broken / "eval" / part / "results.json").read_text())
        assert [(entry["task"], entry["iteration"]) for entry in results] == [
            (task, step) for task in ("addition", "sorting") for step in steps
        ]


def waiting_order(metrics: dict[str, Path], cluster: Cluster) -> list[str]:
    """The arms, that one first whose training has begun."""
    wait_for(lambda: any(num_lines(path) for path in metrics.values()), 900, cluster.logs)
    return sorted(metrics, key=lambda arm: -num_lines(metrics[arm]))
