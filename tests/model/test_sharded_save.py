"""Checkpoints written by a thread: what was there when the save began, or an error."""

import subprocess
import sys

import pytest

pytest.importorskip("megatron.core")

pytestmark = pytest.mark.trainer

PROGRAM = """
import sys
from pathlib import Path

import megatron_sft.model.lean_megatron
import torch
from megatron.core import dist_checkpointing
from megatron.core.dist_checkpointing import ShardedTensor

from megatron_sft.errors import CheckpointError
from megatron_sft.model.device import process_group, select_device
from megatron_sft.model.layout import ParallelLayout
from megatron_sft.model.gpt import model_parallel
from megatron_sft.model.sharded_save import ShardedSave


def sharded(tensor):
    return {"weight": ShardedTensor.from_rank_offsets("weight", tensor)}


device = select_device("cpu")
with process_group(device), device.activate(), model_parallel(ParallelLayout()):
    folder = Path(sys.argv[1])
    folder.mkdir()
    weight = torch.arange(1_000_000, dtype=torch.float32)
    save = ShardedSave(sharded(weight), folder)
    weight.zero_()
    save.finish()
    assert save.is_written()
    loaded = dist_checkpointing.load(sharded(torch.empty(1_000_000)), str(folder))["weight"]
    assert torch.equal(loaded, torch.arange(1_000_000, dtype=torch.float32))

    blocked = folder / "blocked"
    (blocked / "__0_0.distcp").mkdir(parents=True)
    save = ShardedSave(sharded(weight), blocked)
    try:
        save.finish()
    except CheckpointError as error:
        print(error)
"""


def test_the_state_is_that_of_the_begin_and_a_failure_is_an_error(tmp_path):
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "checkpoint")]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    assert "blocked could not be written (rank 0: Worker failure" in result.stdout
