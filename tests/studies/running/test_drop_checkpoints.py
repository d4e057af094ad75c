"""Checkpoints that have been exported make room, the newest one stays."""

from pathlib import Path

from megatron_sft.model import checkpoint_dir
from megatron_sft.studies.running.drop_checkpoints import DropCheckpointsConfig, main


def test_only_exported_ones_go_and_never_the_newest(tmp_path: Path) -> None:
    save, exports, assets = tmp_path / "train", tmp_path / "hf", tmp_path / "assets"
    save.mkdir()
    assets.mkdir()
    for iteration in (10, 20, 40):
        folder = checkpoint_dir.incomplete_dir(save, iteration)
        folder.mkdir(parents=True, exist_ok=True)
        checkpoint_dir.finish(folder, {"iteration": iteration}, assets)
    for iteration in (10, 40):
        (exports / f"iter_{iteration:07d}").mkdir(parents=True)
        (exports / f"iter_{iteration:07d}" / "provenance.json").write_text("{}")
    main(DropCheckpointsConfig(checkpoint=save, exports=exports))
    assert checkpoint_dir.list_complete(save) == [20, 40]
