"""Notes of where a rank is."""

import time

import pytest

pytest.importorskip("megatron.core")

from megatron_sft.model.device import select_device
from megatron_sft.train.progress import DATA_WAIT, FORWARD_BACKWARD, PHASES, SAVING, Note, Progress

pytestmark = pytest.mark.trainer


def test_each_phase_and_row_is_published_in_order():
    progress, seen = Progress(select_device("cpu")), []
    progress.publish = seen.append
    with progress.phase(DATA_WAIT, 4):
        pass
    with progress.forward_backward():
        assert list(progress.rows("ab")) == ["a", "b"]
        progress.reducing()
    with progress.phase(SAVING):
        pass
    assert [str(note) for note in seen] == [
        "iteration 4, waiting for data",
        "iteration 4, forward-backward",
        "iteration 4, forward-backward, row 1 of 2",
        "iteration 4, forward-backward, row 2 of 2",
        "iteration 4, reducing gradients",
        "iteration 4, saving",
    ]
    assert [note.order for note in seen] == sorted(note.order for note in seen)
    assert all(Note.from_json(note.to_json()) == note for note in seen)
    assert len(PHASES) == len(set(PHASES))


def test_computing_ends_where_reducing_begins():
    progress = Progress(select_device("cpu"))
    with progress.forward_backward():
        time.sleep(0.05)
        progress.reducing()
        time.sleep(0.2)
    assert 0.05 <= progress.compute_seconds() < 0.2
    assert progress.note.order > Note(iteration=0, phase=FORWARD_BACKWARD, row=99).order
