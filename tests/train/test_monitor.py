"""Records of a run: every iteration once, also after a kill."""

import json

import pytest

pytest.importorskip("megatron.core")

from megatron_sft.train.monitor import METRICS_FILE, Monitor, StepRecord, drop_records_after

pytestmark = pytest.mark.trainer


def record(iteration, **changes):
    values = {
        "loss": 2.0,
        "grad_norm": 1.0,
        "lr": 1e-3,
        "trained_tokens": 10,
        "tokens": 20,
        "num_samples": 2,
        "num_rows": 1,
        "fill": 0.5,
        "consumed_samples": 2 * iteration,
        "epoch": 0.1,
        "step_time_s": 0.5,
        "data_wait_s": 0.0,
        "tokens_per_s": 40.0,
        "clipped_grad_norm": 0.5,
        "tokens_per_s_per_gpu": 20.0,
        "model_tflops_per_gpu": 1.5,
        "mfu": None,
        "cost_imbalance": 1.0,
        "time_imbalance": 1.0,
        "memory_peak_bytes": 2**30,
        "memory_reserved_bytes": None,
    }
    return StepRecord(iteration=iteration, **{**values, **changes})


def iterations(path):
    return [json.loads(line)["iteration"] for line in path.read_text().splitlines()]


def test_records_beyond_the_checkpoint_go_and_a_partial_line_with_them(tmp_path):
    monitor = Monitor(tmp_path, tmp_path / "tensorboard", resumed_iteration=0)
    for iteration in range(1, 6):
        monitor.record(record(iteration), train_iters=10)
    monitor.close()
    path = tmp_path / METRICS_FILE
    with path.open("a") as file:
        file.write('{"iteration": 6, "lo')
    assert drop_records_after(path, 3) == 2
    assert iterations(path) == [1, 2, 3]

    resumed = Monitor(tmp_path, tmp_path / "tensorboard", resumed_iteration=3)
    resumed.record(record(4), train_iters=10)
    resumed.close()
    assert iterations(path) == [1, 2, 3, 4]


def test_tensorboard_holds_the_scalars_of_each_iteration(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monitor = Monitor(tmp_path, tmp_path / "tensorboard", resumed_iteration=0)
    monitor.record(record(1, loss=2.5), train_iters=2)
    monitor.record(record(2, loss=1.5), train_iters=2)
    monitor.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("train/loss")] == [(1, 2.5), (2, 1.5)]
    wanted = {
        "train/learning_rate",
        "train/grad_norm",
        "train/trained_tokens",
        "throughput/tokens_per_s",
        "data/fill",
        "data/data_wait_s",
    }
    assert wanted <= set(events.Tags()["scalars"])


def test_a_value_that_json_cannot_hold_is_refused(tmp_path):
    monitor = Monitor(tmp_path, tmp_path / "tensorboard", resumed_iteration=0)
    with pytest.raises(ValueError, match="JSON"):
        monitor.record(record(1, loss=float("nan")), train_iters=2)
    monitor.close()
    assert (tmp_path / METRICS_FILE).read_text() == ""
