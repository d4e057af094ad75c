"""Saving and restoring a run: model, optimizer, schedule and data position, in Megatron-Core's distributed format.

The format is reshardable: a checkpoint written with one tp, pp and dp can be read with another. No random state is
stored: nothing in training draws random numbers after the weights are made (dropout is refused, the sample order is a
function of the seed).
"""

import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import megatron_sft.model.lean_megatron  # noqa: F401

import torch
from megatron.core import dist_checkpointing
from megatron.core.optimizer import MegatronOptimizer

from megatron_sft.errors import CheckpointError
from megatron_sft.model import checkpoint_dir
from megatron_sft.model.sharded_save import ShardedSave
from megatron_sft.train.learner import Learner

_SHARDING = {"distrib_optim_sharding_type": "fully_reshardable", "chained_optim_avoid_prefix": True}
"""Optimizer tensors in the model's shapes: the only sharding that another tp or pp can read. Handed over as a copy:
Megatron-Core adds process groups to it."""


@dataclass(frozen=True, kw_only=True)
class PendingCheckpoint:
    """A checkpoint that is being written."""

    iteration: int
    folder: Path
    files: ShardedSave
    run_state: dict[str, Any]
    hf_assets: Path

    def is_written(self) -> bool:
        """Whether this rank's part is on disk. Until `finish` the checkpoint does not count."""
        return self.files.is_written()

    def finish(self) -> Path:
        """Wait for all ranks, then make it count: the marker is written last. Collective; returns the final folder."""
        self.files.finish()
        if _is_first_rank():
            checkpoint_dir.finish(self.folder, self.run_state, self.hf_assets)
        torch.distributed.barrier()
        return checkpoint_dir.iteration_dir(self.folder.parent, self.iteration)


@dataclass(frozen=True, kw_only=True)
class CheckpointStore:
    """The checkpoints of one run. Every method is collective: all ranks call it."""

    save: Path
    """The run's folder."""
    hf_assets: Path
    """Folder of small files (config, tokenizer, template) that every checkpoint carries."""
    identity: dict[str, Any]
    """What must not change between a checkpoint and the run that goes on from it, with its values."""
    description: dict[str, Any]
    """Further facts for `run_state.json`; not compared."""

    def begin(self, learner: Learner, iteration: int, consumed_samples: int) -> "PendingCheckpoint":
        """Begin to write the checkpoint of `iteration`. The learner may go on as soon as this returns."""
        if _is_first_rank():
            checkpoint_dir.incomplete_dir(self.save, iteration)
        torch.distributed.barrier()
        folder = checkpoint_dir.iteration_dir(self.save, iteration)
        folder = folder.with_name(folder.name + checkpoint_dir.INCOMPLETE_SUFFIX)
        run_state = {
            "iteration": iteration,
            "consumed_samples": consumed_samples,
            "identity": self.identity,
            **self.description,
        }
        with learner.whole_weights():
            files = ShardedSave(_state(learner, is_loading=False), folder)
        return PendingCheckpoint(
            iteration=iteration, folder=folder, files=files, run_state=run_state, hf_assets=self.hf_assets
        )

    def restore(self, learner: Learner) -> int:
        """Load the newest checkpoint that is complete and whole, if there is one; returns its iteration, or 0.

        Raises:
            CheckpointError: when the checkpoint belongs to another run (the message names what differs), or all that
                there are have been damaged.
        """
        iteration = self._newest_whole()
        if not iteration:
            return 0
        folder = checkpoint_dir.iteration_dir(self.save, iteration)
        run_state = checkpoint_dir.read_run_state(folder)
        _refuse_other_run(folder, run_state.get("identity", {}), self.identity)
        iteration = int(run_state["iteration"])
        load(learner, folder, num_updates=iteration)
        return iteration

    def _newest_whole(self) -> int:
        """Decided by the first rank for all, lest they see a file system in different states."""
        found: list[Any] = [0, ""]
        if _is_first_rank():
            iterations = checkpoint_dir.list_complete(self.save)
            for iteration in reversed(iterations):
                folder = checkpoint_dir.iteration_dir(self.save, iteration)
                problem = checkpoint_dir.damage(folder)
                if problem is None:
                    found[0] = iteration
                    break
                print(f"warning: {folder} is damaged ({problem}): passed over", flush=True)
            if iterations and not found[0]:
                found[1] = f"{self.save}: every checkpoint there is damaged ({iterations}); use another --save"
        torch.distributed.broadcast_object_list(found, src=0)
        if found[1]:
            raise CheckpointError(found[1])
        return int(found[0])

    def prune(self, num_kept: int, protected: Collection[int]) -> list[int]:
        """Keep the newest `num_kept` checkpoints and the `protected` iterations; returns what was deleted."""
        doomed: list[int] = []
        if _is_first_rank():
            complete = checkpoint_dir.list_complete(self.save)
            doomed = [iteration for iteration in complete[:-num_kept] if iteration not in protected]
            for iteration in doomed:
                checkpoint_dir.remove(self.save, iteration)
        torch.distributed.barrier()
        return doomed

    def discard_incomplete(self) -> list[Path]:
        """Remove what killed saves left behind; returns the folders."""
        leftovers = checkpoint_dir.list_incomplete(self.save)
        torch.distributed.barrier()
        if _is_first_rank():
            for folder in leftovers:
                shutil.rmtree(folder)
        torch.distributed.barrier()
        return leftovers


def load(learner: Learner, folder: Path, *, num_updates: int) -> None:
    """Fill model, optimizer and schedule from a complete checkpoint folder, written after `num_updates` updates."""
    _create_adam_state(learner.optimizer)
    with _tolerating_missing_step(learner.optimizer):
        state = dist_checkpointing.load(_state(learner, is_loading=True), str(folder))
        for name, chunk in _chunks(learner):
            chunk.load_state_dict(state[name])
        learner.optimizer.load_state_dict(state["optimizer"])
    _set_step_counters(learner.optimizer, num_updates)
    learner.scheduler.load_state_dict(state["opt_param_scheduler"])


def _state(learner: Learner, *, is_loading: bool) -> dict[str, Any]:
    model = {name: chunk.sharded_state_dict(metadata=dict(_SHARDING)) for name, chunk in _chunks(learner)}
    optimizer = learner.optimizer.sharded_state_dict(model, is_loading=is_loading, metadata=dict(_SHARDING))
    return {**model, "optimizer": optimizer, "opt_param_scheduler": learner.scheduler.state_dict()}


def _chunks(learner: Learner) -> list[tuple[str, Any]]:
    """The model's parts on this rank by name. The names are this rank's alone: tensors are stored under their own."""
    if len(learner.chunks) == 1:
        return [("model", learner.chunks[0].module)]
    return [(f"model{number}", chunk.module) for number, chunk in enumerate(learner.chunks)]


def _refuse_other_run(folder: Path, saved: dict[str, Any], current: dict[str, Any]) -> None:
    differences = [
        f"{key}: checkpoint {saved.get(key)!r}, now {current.get(key)!r}"
        for key in sorted(saved.keys() | current.keys())
        if saved.get(key) != current.get(key)
    ]
    if differences:
        raise CheckpointError(
            f"{folder} belongs to another run ({'; '.join(differences)}): use its options and data, or another --save"
        )


def _is_first_rank() -> bool:
    return bool(torch.distributed.get_rank() == 0)


def _torch_adams(optimizer: MegatronOptimizer) -> Iterator[Any]:
    """The distributed optimizers that run torch's own Adam (without TransformerEngine or Apex)."""
    for part in getattr(optimizer, "chained_optimizers", [optimizer]):
        if isinstance(part.optimizer, torch.optim.Adam | torch.optim.AdamW):
            yield part


def _create_adam_state(optimizer: MegatronOptimizer) -> None:
    """torch's Adam makes its state at the first step; Megatron-Core's load template needs it before."""
    for part in _torch_adams(optimizer):
        for group in part.optimizer.param_groups:
            for parameter in group["params"]:
                state = part.optimizer.state[parameter]
                if not state:
                    state["step"] = torch.zeros((), dtype=torch.float32)
                    state["exp_avg"] = torch.zeros_like(parameter)
                    state["exp_avg_sq"] = torch.zeros_like(parameter)


class _tolerating_missing_step:
    """Megatron-Core copies every tensor of Adam's state, but stores `step` elsewhere: hand it the present one."""

    def __init__(self, optimizer: MegatronOptimizer) -> None:
        self._parts = list(_torch_adams(optimizer))

    def __enter__(self) -> None:
        for part in self._parts:
            part._set_main_param_and_optimizer_states = _with_step(part)

    def __exit__(self, *_: object) -> None:
        for part in self._parts:
            del part._set_main_param_and_optimizer_states


def _with_step(part: Any) -> Any:
    original = part._set_main_param_and_optimizer_states

    def set_states(model_param: torch.nn.Parameter, tensors: dict[str, Any]) -> None:
        group, place = part.model_param_group_index_map[model_param]
        state = part.optimizer.state[part.optimizer.param_groups[group]["params"][place]]
        original(model_param, {"step": state["step"], **tensors})

    return set_states


def _set_step_counters(optimizer: MegatronOptimizer, num_updates: int) -> None:
    """Give each parameter a counter of its own.

    Megatron-Core's load gives all of them the same tensor, which torch's Adam would then advance once for each; and
    where TransformerEngine is installed, it does not store the counters of torch's Adam at all.
    """
    for part in _torch_adams(optimizer):
        for state in part.optimizer.state.values():
            state["step"] = torch.tensor(float(num_updates))
