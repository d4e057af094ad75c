"""A trace of the iterations asked for, with the phases of an iteration by name."""

import json
from collections import Counter

import pytest

pytest.importorskip("megatron.core")

from megatron_sft.train.progress import CHECKING, DATA_WAIT, FIGURES, FORWARD_BACKWARD, SAVING, UPDATING

pytestmark = [pytest.mark.trainer, pytest.mark.slow]


def test_a_trace_has_the_phases_of_its_iterations(train, tmp_path):
    steps = ["--profile-step-start", "2", "--profile-step-end", "4", "--train-iters", "5", "--save-iters", "3"]
    train(tmp_path, *steps, flags=("--profile",))
    [path] = (tmp_path / "tensorboard").glob("*.pt.trace.json")
    assert path.name.startswith("rank0.")
    events = json.loads(path.read_text())["traceEvents"]
    ranges = Counter(event["name"] for event in events if event.get("cat") == "user_annotation")
    assert {name: ranges[name] for name in (DATA_WAIT, FORWARD_BACKWARD, CHECKING, UPDATING, FIGURES, SAVING)} == {
        DATA_WAIT: 2, FORWARD_BACKWARD: 2, CHECKING: 2, UPDATING: 2, FIGURES: 2, SAVING: 1,
    }  # fmt: skip


def test_a_run_that_ends_within_the_trace_writes_it_and_others_write_none(train, tmp_path):
    steps = ["--train-iters", "2", "--profile-step-start", "1", "--profile-step-end", "9"]
    train(tmp_path / "end", *steps, flags=("--profile",))
    assert len(list((tmp_path / "end" / "tensorboard").glob("*.pt.trace.json"))) == 1
    train(tmp_path / "none", "--train-iters", "2")
    assert list((tmp_path / "none" / "tensorboard").glob("*.json")) == []
