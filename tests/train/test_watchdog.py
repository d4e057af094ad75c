"""A run that hangs ends by itself and says where each rank was."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("megatron.core")

from megatron_sft.model.device import select_device
from megatron_sft.train.progress import DATA_WAIT, FORWARD_BACKWARD, REDUCING, Note, Progress
from megatron_sft.train.watchdog import EXIT_STATUS, SHARE_OF_TIMEOUT, Watchdog, describe
from tests.train.harness import BATCH, trainer_environment

pytestmark = pytest.mark.trainer

TIMEOUT_S = 3.0
# Beyond the limit: the grace, slow writing, other load of the machine.
SLACK_S = 25.0


def test_ranks_at_one_place_share_a_line_and_the_last_one_is_named():
    reducing = Note(iteration=7, phase=REDUCING, since=90.0)
    notes = dict.fromkeys((0, 1, 3), reducing) | {
        2: Note(iteration=7, phase=FORWARD_BACKWARD, row=2, num_rows=5, since=80.0)
    }
    assert describe(notes, 4, 100.0) == [
        "where each rank was last seen:",
        "  ranks 0 to 1: iteration 7, reducing gradients, for 10.0 s",
        "  rank 2: iteration 7, forward-backward, row 2 of 5, for 20.0 s",
        "  rank 3: iteration 7, reducing gradients, for 10.0 s",
        "  furthest behind: rank 2",
    ]


def test_a_rank_without_a_note_is_the_last_one():
    lines = describe({0: Note(iteration=1, phase=DATA_WAIT, since=1.0)}, 2, 2.0)
    assert lines[2:] == ["  rank 1: never seen", "  furthest behind: rank 1"]


def test_a_single_process_may_compute_for_longer_than_the_timeout():
    progress = Progress(select_device("cpu"))
    with Watchdog(progress=progress, board=None, timeout_s=0.2).watching(), progress.phase(FORWARD_BACKWARD, 1):
        time.sleep(0.6)
    assert progress.note.phase == FORWARD_BACKWARD


def test_a_single_process_that_gets_no_data_is_ended():
    program = """
import time
from megatron_sft.model.device import select_device
from megatron_sft.train.progress import DATA_WAIT, Progress
from megatron_sft.train.watchdog import Watchdog
progress = Progress(select_device("cpu"))
with Watchdog(progress=progress, board=None, timeout_s=0.5).watching(), progress.phase(DATA_WAIT, 3):
    time.sleep(60)
"""
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, env=trainer_environment(), capture_output=True, text=True, timeout=50)
    assert result.returncode == EXIT_STATUS
    assert "rank 0: no progress for 0.45 s in iteration 3, waiting for data" in result.stderr
    assert "--distributed-timeout-minutes" in result.stderr
    assert re.search(r'File "<string>", line 8 in <module>', result.stderr)


class Run:
    """Two ranks without a launcher, which would end one when the other does."""

    def __init__(self, world, folder: Path, asleep=None):
        options = {
            "data": str(world.shards), "init_from": str(world.model), "save": str(folder / "run"), "device": "cpu",
            "global_batch_size": BATCH, "seq_length": 320, "train_iters": 4000, "lr": 1e-3,
            "distributed_timeout_minutes": TIMEOUT_S / 60,
        }  # fmt: skip
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = str(probe.getsockname()[1])
        script = str(Path(__file__).with_name("hang_ranks.py"))
        command = [sys.executable, script, json.dumps({"options": options, "asleep": asleep})]
        self.metrics = folder / "run" / "metrics.jsonl"
        self.errors = [folder / f"rank{rank}.txt" for rank in range(2)]
        shared = {**trainer_environment(), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        self.ranks = []
        for rank in range(2):
            with self.errors[rank].open("w") as errors:
                environment = {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}
                started = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=errors)
                self.ranks.append(started)

    def wait_for_iterations(self, number: int) -> None:
        deadline = time.monotonic() + 120
        while not (self.metrics.exists() and len(self.metrics.read_text().splitlines()) >= number):
            assert time.monotonic() < deadline
            assert [rank.poll() for rank in self.ranks] == [None, None], self.errors[0].read_text()[-3000:]
            time.sleep(0.02)

    def end_of(self, rank: int) -> tuple[int, str, float]:
        """Status, what it printed, and the seconds until it ended."""
        started = time.monotonic()
        status = self.ranks[rank].wait(timeout=SHARE_OF_TIMEOUT * TIMEOUT_S + SLACK_S)
        return status, self.errors[rank].read_text(), time.monotonic() - started


@pytest.fixture
def start(world, tmp_path):
    runs = []

    def start(**changes) -> Run:
        runs.append(Run(world, tmp_path, **changes))
        return runs[-1]

    yield start
    for run in runs:
        for rank in run.ranks:
            rank.kill()
            rank.wait()


@pytest.mark.slow
def test_a_rank_that_is_stopped_is_named_by_the_other_one_in_time(start):
    run = start()
    run.wait_for_iterations(3)
    os.kill(run.ranks[1].pid, signal.SIGSTOP)
    status, said, seconds = run.end_of(0)
    assert status == EXIT_STATUS
    assert seconds >= SHARE_OF_TIMEOUT * TIMEOUT_S - 1
    assert re.search(r"rank 0: no progress for 2\.7 s in iteration \d+, ", said), said
    assert re.search(r"\n  rank 0: iteration \d+, .* for [23]\.\d s\n  rank 1: iteration \d+, ", said), said
    assert "furthest behind: rank 1" in said
    # The stacks of this rank: in the loop, waiting for the other.
    assert "trainer.py" in said and "in train" in said


@pytest.mark.slow
def test_a_rank_that_gets_no_batch_says_so_itself(start):
    run = start(asleep={"rank": 1, "iteration": 4})
    run.wait_for_iterations(3)
    status, said, _ = run.end_of(1)
    assert status == EXIT_STATUS
    assert "rank 1: no progress for 2.7 s in iteration 4, waiting for data" in said
    assert "furthest behind: rank 1" in said
    assert "hang_ranks.py" in said and "in build" in said
    assert run.ranks[0].wait(timeout=SLACK_S) != 0
    assert "rank 0" in run.errors[0].read_text()


@pytest.mark.slow
def test_a_rank_that_was_killed_is_named_at_once(start):
    run = start()
    run.wait_for_iterations(3)
    run.ranks[1].kill()
    status, said, _ = run.end_of(0)
    assert status not in (0, EXIT_STATUS)
    assert re.search(r"rank 0 failed in iteration \d+, .*\nwhere each rank was last seen:\n", said), said
    assert re.search(r"\n  rank 1: iteration \d+, ", said), said


@pytest.mark.slow
def test_the_other_rank_ends_too_when_the_store_is_stopped(start):
    # Without a launcher, the store lives in rank 0.
    run = start()
    run.wait_for_iterations(3)
    os.kill(run.ranks[0].pid, signal.SIGSTOP)
    status, said, _ = run.end_of(1)
    assert status == EXIT_STATUS
    assert "rank 1: no progress for 2.7 s in iteration" in said
    assert "the store that the ranks met at does not answer" in said
