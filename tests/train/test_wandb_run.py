"""Weights & Biases: offline, continued by its id, and refused with the remedy where it is missing."""

import importlib.util

import pytest

pytest.importorskip("megatron.core")

from megatron_sft.errors import EnvironmentProblem
from megatron_sft.train.wandb_run import WandbRun

pytestmark = pytest.mark.trainer
HAS_WANDB = importlib.util.find_spec("wandb") is not None


@pytest.mark.skipif(not HAS_WANDB, reason='wandb is not installed: pip install ".[wandb]"')
def test_a_run_is_kept_on_disk_and_goes_on_under_its_id(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    for _ in range(2):
        run = WandbRun(tmp_path, project="test", name=None, config={"lr": 1e-3})
        run.log(1, {"train/loss": 2.0})
        run.close()
    [run_id] = (tmp_path / "wandb_run_id.txt").read_text().split()
    folders = list((tmp_path / "wandb").glob(f"offline-run-*-{run_id}"))
    assert folders
    assert all(list(folder.glob("*.wandb")) for folder in folders)


@pytest.mark.skipif(HAS_WANDB, reason="wandb is installed")
def test_a_missing_package_is_named_with_the_remedy(tmp_path):
    with pytest.raises(EnvironmentProblem, match=r"--wandb-project test: .*pip install"):
        WandbRun(tmp_path, project="test", name=None, config={})
    assert list(tmp_path.iterdir()) == []
