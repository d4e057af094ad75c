"""Weights & Biases, where a run asks for it."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from megatron_sft.errors import EnvironmentProblem
from megatron_sft.files import write_text

_ID_FILE = "wandb_run_id.txt"


class WandbRun:
    """One run there; a training run that goes on continues it."""

    def __init__(self, save: Path, *, project: str, name: str | None, config: Mapping[str, Any]) -> None:
        """Open the run; its id lies in `save` for the next start. `WANDB_MODE=offline` needs no account.

        Raises:
            EnvironmentProblem: when the package `wandb` is not installed.
        """
        try:
            wandb = importlib.import_module("wandb")
        except ImportError as error:
            raise EnvironmentProblem(
                f'--wandb-project {project}: the package wandb cannot be imported ({error}): pip install ".[wandb]", '
                "or leave the option out"
            ) from error
        id_file = save / _ID_FILE
        save.mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(
            project=project,
            name=name or save.name,
            id=id_file.read_text(encoding="utf-8").strip() if id_file.exists() else None,
            resume="allow",
            dir=str(save),
            config=dict(config),
        )
        write_text(id_file, f"{self._run.id}\n")
        # Iterations that are trained again after a kill are not refused, as they would be by wandb's own step.
        self._run.define_metric("iteration")
        self._run.define_metric("*", step_metric="iteration")

    def log(self, iteration: int, scalars: Mapping[str, float]) -> None:
        """Send the figures of an iteration under TensorBoard's names."""
        self._run.log({"iteration": iteration, **scalars})

    def close(self) -> None:
        """Finish the run there."""
        self._run.finish()
