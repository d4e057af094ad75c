"""`python -m megatron_sft.studies.running.drop_checkpoints`: frees the disk of checkpoints that have been exported.

A checkpoint holds the optimizer's state beside the weights, several times as much as its export. The newest one stays:
the training is done as long as it is there.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from megatron_sft import cli
from megatron_sft.model import checkpoint_dir

EXPORTED = "provenance.json"
"""In every export, which appears only when it is complete."""


@dataclass(frozen=True, kw_only=True)
class DropCheckpointsConfig:
    """Remove checkpoints whose exports are there, all but the newest one."""

    checkpoint: Path
    """A trainer's --save folder."""
    exports: Path
    """Folder of exports, named as the checkpoints."""


def main(config: DropCheckpointsConfig) -> None:
    """Remove them, naming each."""
    for iteration in checkpoint_dir.list_complete(config.checkpoint)[:-1]:
        folder = checkpoint_dir.iteration_dir(config.checkpoint, iteration)
        if (config.exports / folder.name / EXPORTED).is_file():
            checkpoint_dir.remove(config.checkpoint, iteration)
            print(f"{folder}: removed; {config.exports / folder.name} has its weights", flush=True)


if __name__ == "__main__":
    sys.exit(cli.run(DropCheckpointsConfig, main, prog="drop_checkpoints"))
