"""What a job refuses to run, and where nodes meet. What jobs do on a cluster is in test_cluster.py."""

import signal
import socket
import sys
from pathlib import Path

import pytest

pytest.importorskip("submitit")

from megatron_sft.stages.graph import Graph, Stage
from megatron_sft.studies.running.slurm import job
from megatron_sft.studies.running.slurm.queue import Record, Records


@pytest.mark.parametrize("on_record", ["8", None])
def test_a_job_that_is_not_on_record_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_record: str | None
) -> None:
    words = (sys.executable, "-c", "import sys; open(sys.argv[1], 'w')", "{output}/a.txt")
    stage = Stage(name="a", kind="data", title="a", commands=(words,), outputs=("{output}/a.txt",))
    if on_record is not None:
        Records(tmp_path).write("a", Record(job=on_record, key="k", submitted="2026-01-01T00:00:00+00:00"))
    monkeypatch.setattr(job, "RECORD_S", 0)
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    what = job.StageOf(name="a", graph=Graph([stage]), output=tmp_path, root=tmp_path, requeues=1)
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(job.StageFailed, match=f"{f'job {on_record}' if on_record else 'no job'} is on record"):
            job.StageJob(what)()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert not (tmp_path / "a.txt").exists()


def test_nodes_meet_at_a_name_or_where_slurm_reaches_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_LAUNCH_NODE_IPADDR", "10.1.2.3")
    assert job.rendezvous_host(socket.gethostname()) == socket.gethostname()
    # A name that no resolver has (RFC 6761), as a node's name in slurm.conf may be.
    assert job.rendezvous_host("node0.invalid") == "10.1.2.3"
