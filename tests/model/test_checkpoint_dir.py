"""Which checkpoint folders count."""

import pytest

from megatron_sft.errors import CheckpointError
from megatron_sft.model import checkpoint_dir


@pytest.fixture
def assets(tmp_path):
    folder = tmp_path / "assets"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    return folder


def write(save, iteration, assets):
    folder = checkpoint_dir.incomplete_dir(save, iteration)
    (folder / "weights").write_text(str(iteration))
    return checkpoint_dir.finish(folder, {"iteration": iteration}, assets)


def test_a_finished_folder_counts_and_is_the_latest(tmp_path, assets):
    save = tmp_path / "save"
    for iteration in (10, 20):
        write(save, iteration, assets)
    assert checkpoint_dir.list_complete(save) == [10, 20]
    assert (save / "latest_checkpointed_iteration.txt").read_text() == "20\n"
    assert checkpoint_dir.resolve(save).name == "iter_0000020"
    assert checkpoint_dir.resolve(save, 10).name == "iter_0000010"
    assert checkpoint_dir.resolve(save / "iter_0000010").name == "iter_0000010"
    assert checkpoint_dir.read_run_state(save / "iter_0000020")["iteration"] == 20
    assert (save / "iter_0000020" / "hf" / "config.json").exists()


def test_an_interrupted_save_never_counts(tmp_path, assets):
    save = tmp_path / "save"
    write(save, 10, assets)
    (checkpoint_dir.incomplete_dir(save, 20) / "weights").write_text("half")
    unmarked = write(save, 30, assets)
    (unmarked / checkpoint_dir.MARKER).unlink()
    assert checkpoint_dir.list_complete(save) == [10]
    assert checkpoint_dir.resolve(save).name == "iter_0000010"
    assert [folder.name for folder in checkpoint_dir.list_incomplete(save)] == [
        "iter_0000020.incomplete",
        "iter_0000030",
    ]
    with pytest.raises(CheckpointError, match="incomplete"):
        checkpoint_dir.resolve(unmarked)


def test_what_is_not_there_is_named_with_what_is(tmp_path, assets):
    save = tmp_path / "save"
    with pytest.raises(CheckpointError, match="no such folder"):
        checkpoint_dir.resolve(save)
    write(save, 10, assets)
    with pytest.raises(CheckpointError, match=r"no complete checkpoint of iteration 15; there are \[10\]"):
        checkpoint_dir.resolve(save, 15)


@pytest.mark.parametrize("content", ["", "{", '{"format_version": 99}', "[]"])
def test_a_damaged_run_state_is_refused(tmp_path, assets, content):
    folder = write(tmp_path / "save", 10, assets)
    (folder / checkpoint_dir.RUN_STATE).write_text(content)
    with pytest.raises(CheckpointError, match=r"run_state\.json"):
        checkpoint_dir.read_run_state(folder)


def test_damage_is_named(tmp_path, assets):
    folder = write(tmp_path / "save", 10, assets)
    assert checkpoint_dir.damage(folder) is None
    (folder / "weights").write_text("1")
    assert checkpoint_dir.damage(folder) == "weights has 1 bytes instead of 2"
    (folder / "weights").unlink()
    assert checkpoint_dir.damage(folder) == "weights is missing"
    (folder / checkpoint_dir.MARKER).write_text("{")
    assert "cannot be read" in checkpoint_dir.damage(folder)


def test_a_removed_checkpoint_is_gone(tmp_path, assets):
    write(tmp_path, 10, assets)
    write(tmp_path, 20, assets)
    checkpoint_dir.remove(tmp_path, 10)
    assert checkpoint_dir.list_complete(tmp_path) == [20]
    assert checkpoint_dir.list_incomplete(tmp_path) == []
