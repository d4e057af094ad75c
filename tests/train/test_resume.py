"""A killed run goes on as if nothing had happened; a run that is not the same one is refused."""

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

pytest.importorskip("megatron.core")

from megatron_sft.model import checkpoint_dir
from tests.train.harness import read_metrics, trainer_command, trainer_environment

pytestmark = [pytest.mark.trainer, pytest.mark.slow]

SCHEDULE = ["--train-iters", "12", "--save-iters", "4,8", "--lr-warmup-iters", "2"]


def kill_after(command, save, iteration, more_seconds=0.0):
    """Start a run, wait for a record of `iteration` and longer, and kill every process of it with SIGKILL."""
    started = time.time()
    process = subprocess.Popen(command, env=trainer_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        metrics = save / "metrics.jsonl"
        # An earlier run may have recorded the iteration already.
        is_new = metrics.exists() and metrics.stat().st_mtime > started
        if is_new and len(metrics.read_text().splitlines()) >= iteration:
            break
        assert process.poll() is None, process.stderr.read().decode()[-5000:]
        time.sleep(0.02)
    time.sleep(more_seconds)
    for pid in [*descendants(process.pid), process.pid]:
        os.kill(pid, signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL


def descendants(pid):
    """Processes below one, from /proc: torchrun's workers are in sessions of their own."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        parents.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found = list(parents.get(pid, []))
    for child in found:
        found += parents.get(child, [])
    return found


@pytest.mark.parametrize("layout", [(1, []), (2, [])], ids=["dp1", "dp2"])
def test_losses_after_a_kill_equal_the_uninterrupted_runs_bit_for_bit(world, train, tmp_path, layout):
    num_processes, options = layout
    train(tmp_path / "whole", *SCHEDULE, *options, num_processes=num_processes)
    whole = read_metrics(tmp_path / "whole")

    save = tmp_path / "killed"
    kill_after(trainer_command(world, save, *SCHEDULE, *options, num_processes=num_processes), save, 6)
    assert checkpoint_dir.list_complete(save) == [4]
    recorded = len(read_metrics(save))
    assert 6 <= recorded < 12
    result = train(save, *SCHEDULE, *options, num_processes=num_processes)
    assert "resuming after iteration 4" in result.stdout

    resumed = read_metrics(save)
    assert [record["iteration"] for record in resumed] == list(range(1, 13))
    fields = ("loss", "grad_norm", "lr", "consumed_samples", "trained_tokens")
    assert [[record[f] for f in fields] for record in resumed] == [[record[f] for f in fields] for record in whole]
    assert whole[-1]["loss"] < whole[0]["loss"]


def test_a_run_that_is_killed_again_and_again_ends_as_if_it_never_was(world, train, tmp_path):
    """Every iteration is saved, so many kills fall into a save. MEGATRON_SFT_TRAINER_KILLS sets their number."""
    num_kills = int(os.environ.get("MEGATRON_SFT_TRAINER_KILLS", "2"))
    options = ["--train-iters", str(12 + 4 * num_kills), "--save-interval", "1", "--keep-checkpoints", "3"]
    options += ["--lr-warmup-iters", "2"]
    train(tmp_path / "whole", *options, num_processes=2)
    save = tmp_path / "killed"
    moments = random.Random(0)
    interrupted_saves = 0
    for attempt in range(num_kills):
        # Written at once and in the background by turns.
        command = trainer_command(world, save, *options, "--async-save", str(attempt % 2 == 0), num_processes=2)
        done = checkpoint_dir.list_complete(save)[-1:] or [0]
        kill_after(command, save, done[0] + 1, moments.uniform(0, 1.5))
        interrupted_saves += len(checkpoint_dir.list_incomplete(save))
    train(save, *options, num_processes=2)
    whole, killed = read_metrics(tmp_path / "whole"), read_metrics(save)
    fields = ("iteration", "loss", "grad_norm", "lr", "consumed_samples", "trained_tokens")
    assert [[record[f] for f in fields] for record in killed] == [[record[f] for f in fields] for record in whole]
    print(f"{num_kills} kills, {interrupted_saves} of them during a save")


def test_another_layout_goes_on_from_the_same_checkpoint(train, tmp_path):
    options = ["--train-iters", "6", "--save-iters", "3"]
    train(tmp_path / "whole", *options)
    train(tmp_path / "resharded", *options)
    # Leave iteration 3 as the newest one: what a run stopped there would have.
    (checkpoint_dir.iteration_dir(tmp_path / "resharded", 6) / checkpoint_dir.MARKER).unlink()
    train(tmp_path / "resharded", *options, "--tensor-model-parallel-size", "2", num_processes=2)
    whole, resharded = read_metrics(tmp_path / "whole"), read_metrics(tmp_path / "resharded")
    assert [record["iteration"] for record in resharded] == list(range(1, 7))
    for ours, reference in zip(resharded, whole, strict=True):
        assert ours["loss"] == pytest.approx(reference["loss"], rel=1e-4)


def test_a_run_that_is_not_the_checkpoints_is_refused_by_name(train, tmp_path):
    train(tmp_path, "--train-iters", "2")
    before = {
        name: (tmp_path / name).read_bytes() for name in ("run_config.json", "resolved_config.yaml", "metrics.jsonl")
    }
    result = train(tmp_path, "--train-iters", "2", "--lr", "2e-3", check=False)
    assert result.returncode != 0
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    assert "lr: checkpoint 0.001, now 0.002" in result.stderr


def test_sigterm_saves_and_the_same_command_goes_on(world, train, tmp_path):
    long = ["--train-iters", "400", "--save-iters", "399"]
    command = trainer_command(world, tmp_path, *long, num_processes=2)
    process = subprocess.Popen(command, env=trainer_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    metrics = tmp_path / "metrics.jsonl"
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and not (metrics.exists() and len(metrics.read_text().splitlines()) >= 3):
        assert process.poll() is None, process.stdout.read().decode()[-5000:]
        time.sleep(0.02)
    process.terminate()
    output = process.communicate(timeout=120)[0].decode()
    assert process.returncode != 0
    [saved] = checkpoint_dir.list_complete(tmp_path)
    assert f"SIGTERM: saved iteration {saved}" in output
    assert 3 <= saved < 400
    assert [record["iteration"] for record in read_metrics(tmp_path)] == list(range(1, saved + 1))
    process = subprocess.Popen(command, env=trainer_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    resuming = next(line for line in process.stdout if b"resuming after iteration" in line)
    assert f"resuming after iteration {saved} ".encode() in resuming
    process.terminate()
    process.communicate(timeout=120)


def test_a_damaged_checkpoint_is_passed_over(train, tmp_path):
    options = ["--train-iters", "3", "--save-iters", "1,2"]
    train(tmp_path, *options)
    whole = read_metrics(tmp_path)
    newest, before = (checkpoint_dir.iteration_dir(tmp_path, iteration) for iteration in (3, 2))
    largest = max(newest.glob("*.distcp"), key=lambda path: path.stat().st_size)
    os.truncate(largest, largest.stat().st_size - 1)
    (before / ".metadata").unlink()
    result = train(tmp_path, *options)
    assert f"{newest} is damaged ({largest.name} has" in result.stdout
    assert f"{before} is damaged (.metadata is missing)" in result.stdout
    assert "resuming after iteration 1" in result.stdout
    assert [record["loss"] for record in read_metrics(tmp_path)] == [record["loss"] for record in whole]
    assert checkpoint_dir.damage(newest) is None and checkpoint_dir.damage(before) is None


def test_old_checkpoints_go_and_listed_ones_stay(train, tmp_path):
    options = ["--train-iters", "5", "--save-interval", "1", "--save-iters", "2", "--keep-checkpoints", "2"]
    result = train(tmp_path, *options)
    assert checkpoint_dir.list_complete(tmp_path) == [2, 4, 5]
    assert "deleted the checkpoints of iterations [1]" in result.stdout
    assert "deleted the checkpoints of iterations [3]" in result.stdout
