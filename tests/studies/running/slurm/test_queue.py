"""Records of jobs, and what is said where Slurm is not."""

from pathlib import Path

import pytest

from megatron_sft.errors import ConfigError, EnvironmentProblem
from megatron_sft.studies.__main__ import RunStudyConfig
from megatron_sft.studies.running.slurm.queue import QueuedJob, Record, Records, check_programs, state_of


def test_records_are_kept_beside_the_marks(tmp_path: Path) -> None:
    record = Record(job="12_3", key="k", submitted="2026-01-01T00:00:00+00:00")
    Records(tmp_path).write("train-one", record)
    assert Records(tmp_path).read("train-one") == record
    assert (tmp_path / "stages" / "slurm" / "train-one.json").exists()
    assert Records(tmp_path).read("train-two") is None
    (tmp_path / "stages" / "slurm" / "train-one.json").write_text('{"job": "12"}')
    assert Records(tmp_path).read("train-one") is None


def test_which_states_are_final() -> None:
    live = {state: QueuedJob(state=state, reason="", nodes="").is_live for state in ("PENDING", "COMPLETING", "FAILED")}
    assert live == {"PENDING": True, "COMPLETING": True, "FAILED": False}


def test_without_slurm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EnvironmentProblem, match="sbatch, srun, squeue, scontrol: not found"):
        check_programs()


def test_without_an_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "squeue").write_text("#!/bin/sh\necho 'squeue: error: no controller' >&2\nexit 1\n")
    (tmp_path / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    assert state_of("7") == ""


def test_options_that_have_no_effect() -> None:
    with pytest.raises(ConfigError, match="--no-wait has no effect without --executor slurm"):
        RunStudyConfig(study="paper", no_wait=True)
    with pytest.raises(ConfigError, match=r"--slurm jobs.yaml has no effect"):
        RunStudyConfig(study="paper", slurm=Path("jobs.yaml"))
