"""Records of a run: every iteration once, also after a kill."""

import json

import pytest

pytest.importorskip("megatron.core")

from megatron_sft.train.monitor import METRICS_FILE, Monitor, SpikeRule, StepRecord, drop_records_after

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
        "num_places": 40,
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
        "train/clipped_grad_norm",
        "throughput/tokens_per_s_per_gpu",
        "throughput/model_tflops_per_gpu",
        "throughput/cost_imbalance",
        "throughput/time_imbalance",
        "memory/peak_gib",
        "data/fill",
        "data/data_wait_s",
    }
    found = set(events.Tags()["scalars"])
    assert wanted <= found
    # What is not known has no scalar.
    assert not found & {"throughput/mfu", "train/params_norm", "memory/reserved_gib", "fp8/amax", "fp8/num_bad"}


def test_figures_that_are_not_always_there_have_scalars_where_they_are(tmp_path):
    given = {"mfu": 0.4, "params_norm": 46.0, "memory_reserved_bytes": 2**31, "fp8_amax": 7.0, "fp8_num_bad": 1}
    scalars = dict(record(1, **given, source_losses={"math": 0.5, "code": 0.25}).scalars())
    assert scalars["throughput/mfu"] == 0.4
    assert scalars["memory/reserved_gib"] == 2.0
    assert (scalars["fp8/amax"], scalars["fp8/num_bad"], scalars["train/params_norm"]) == (7.0, 1, 46.0)
    assert (scalars["source_loss/math"], scalars["source_loss/code"]) == (0.5, 0.25)
    assert "(MFU 40.0%)" in record(1, **given).console_line(10)


def test_a_spike_is_told_with_its_samples_also_behind_a_resume(tmp_path, capsys):
    rule = SpikeRule(window=16, factor=6.0)
    monitor = Monitor(tmp_path, tmp_path / "tensorboard", resumed_iteration=0, spike_rule=rule)
    for iteration in range(1, 13):
        monitor.record(record(iteration, loss=2.0 + 0.01 * (iteration % 3)), train_iters=20)
    monitor.close()
    assert "spike" not in capsys.readouterr().out
    # Iterations 11 and 12 are trained again; the ten before them are enough to compare with.
    monitor = Monitor(tmp_path, tmp_path / "tensorboard", resumed_iteration=10, spike_rule=rule)
    monitor.record(record(11, loss=2.5, grad_norm=1.0), train_iters=20, samples="samples 20 to 21")
    monitor.record(record(12, loss=2.0, grad_norm=3.0), train_iters=20, samples="samples 22 to 23")
    monitor.close()
    warnings = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: spike: ")]
    assert len(warnings) == 2
    assert warnings[0].startswith("warning: spike: iteration 11: loss 2.5 is above 2.0")
    assert warnings[0].endswith("; samples 20 to 21")
    assert warnings[1].startswith("warning: spike: iteration 12: grad_norm 3 is above 1.0")
    records = [json.loads(line) for line in (tmp_path / METRICS_FILE).read_text().splitlines()]
    assert [(line["iteration"], line["spikes"]) for line in records[9:]] == [
        (10, []),
        (11, ["loss"]),
        (12, ["grad_norm"]),
    ]


def test_without_a_window_nothing_is_a_spike(tmp_path, capsys):
    monitor = Monitor(tmp_path, tmp_path / "tb", resumed_iteration=0, spike_rule=SpikeRule(window=0))
    for iteration in range(1, 20):
        monitor.record(record(iteration, loss=10.0**iteration), train_iters=20)
    monitor.close()
    assert "spike" not in capsys.readouterr().out


def test_a_value_that_json_cannot_hold_is_refused(tmp_path):
    monitor = Monitor(tmp_path, tmp_path / "tensorboard", resumed_iteration=0)
    with pytest.raises(ValueError, match="JSON"):
        monitor.record(record(1, loss=float("nan")), train_iters=2)
    monitor.close()
    assert (tmp_path / METRICS_FILE).read_text() == ""
