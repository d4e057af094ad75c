"""`tools/convert_checkpoint`: exact conversion between Hugging Face folders and checkpoints."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from megatron_sft import cli


@dataclass(frozen=True, kw_only=True)
class ToHf:
    """Export a checkpoint as a Hugging Face model folder, opened again and compared before it is called done."""

    checkpoint: Path
    """A trainer's --save folder, or one iter_NNNNNNN folder in it."""

    output: Path
    """Folder to create. It appears only when the export is complete."""

    iteration: int | None = None
    """Iteration to export; the newest complete one when left out."""

    dtype: Literal["float32", "bfloat16"] | None = None
    """Cast the weights to this type; they keep the checkpoint's when left out."""


@dataclass(frozen=True, kw_only=True)
class FromHf:
    """Write a Hugging Face model as a checkpoint of iteration 0."""

    model: Path
    """Hugging Face folder: config.json, safetensors, tokenizer and chat template."""

    output: Path
    """Checkpoint folder to write iter_0000000 into."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit status."""
    commands: Any = ToHf | FromHf
    return cli.run(commands, _convert, prog="convert_checkpoint", argv=argv)


def _convert(command: ToHf | FromHf) -> None:
    if isinstance(command, ToHf):
        import torch

        from megatron_sft.convert.to_hf import export

        dtype = None if command.dtype is None else getattr(torch, command.dtype)
        export(command.checkpoint, command.output, command.iteration, dtype=dtype)
    else:
        from megatron_sft.convert.from_hf import import_model

        import_model(command.model, command.output)


if __name__ == "__main__":
    sys.exit(main())
