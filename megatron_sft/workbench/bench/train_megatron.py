"""The peers of `bench train` that are this trainer: its own loop, without checkpoints.

`unpacked` gives every sample a row of its own: Megatron-Core and TransformerEngine without packing.
"""

from dataclasses import fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import megatron_sft.model.lean_megatron  # noqa: F401

import numpy as np
import torch
from numpy.typing import NDArray

from megatron_sft import backends, pretrain_sft
from megatron_sft.data.order import SampleOrder
from megatron_sft.data.packing import RowPlan
from megatron_sft.data.shards import ShardReader
from megatron_sft.metrics import read_jsonl
from megatron_sft.model.device import process_group, select_device
from megatron_sft.model.geometry import ModelGeometry
from megatron_sft.model.gpt import model_parallel
from megatron_sft.train import precision, start_up
from megatron_sft.train.batch import BatchBuilder
from megatron_sft.train.chosen_backends import chosen_backends
from megatron_sft.train.learner import Learner
from megatron_sft.train.options import TrainOptions
from megatron_sft.train.profiling import profiling
from megatron_sft.train.progress import UPDATING, Note
from megatron_sft.train.saving import Saver
from megatron_sft.train.trainer import Trainer
from megatron_sft.workbench.bench.train_device import ceilings, device_name, memory_peaks
from megatron_sft.workbench.bench.train_job import OUT_OF_MEMORY, Answer, Job, Step, train_options


class UnpackedBatches(BatchBuilder):
    """A row for each sample."""

    def plan(self, lengths: NDArray[np.int64]) -> RowPlan:
        """The longest first, as the trainer orders rows by their cost."""
        assert self.dp_size == 1, "one process"
        order = np.argsort(-lengths, kind="stable").tolist()
        each = self.length_multiple
        row_lengths = [min(-(-int(lengths[i]) // each) * each, self.seq_length) for i in order]
        return RowPlan(ranks=[[[i] for i in order]], row_lengths=[row_lengths])


class NoSaver(Saver):
    """Saves nothing: only training is measured."""

    def __init__(self) -> None:
        self._pending = None

    def save(self, iteration: int) -> None:
        """Nothing to do."""


class Stopwatch:
    """Seconds of the phases that `metrics.jsonl` does not have, for each iteration."""

    def __init__(self, learner: Learner) -> None:
        self.forward_backward_s: list[float] = []
        self.update_s: list[float] = []
        self._learner = learner
        self._since: float | None = None
        learner.progress.publish = self._note

    def after_iteration(self) -> None:
        """The device's queue is empty here."""
        self.forward_backward_s.append(self._learner.progress.compute_seconds())

    def _note(self, note: Note) -> None:
        """The update begins after a wait for the gradient norm and ends with a wait for the device."""
        if self._since is not None:
            self.update_s.append(note.since - self._since)
        self._since = note.since if note.phase == UPDATING else None


def run(job: Job) -> Answer:
    """Train as the job says; running out of memory ends it with what was measured so far."""
    options = train_options(job)
    device = select_device(options.device)
    with process_group(device), device.activate(), model_parallel(options.layout):
        precision.check(options, device)
        stopwatch, problem = _train(job, options)
        # Before what follows takes memory of its own.
        peak, reserved = memory_peaks(device.torch_device)
        details = {"trace": str(options.tensorboard_folder), **ceilings(device.torch_device)} if job.profiled else None
    return Answer(
        versions={"device": device_name(device.torch_device), **_versions()},
        how="; ".join(f"{name} {what}" for name, what in _how(options).items()),
        steps=_steps(options.save / "metrics.jsonl", stopwatch),
        peak_bytes=peak,
        reserved_bytes=reserved,
        problem=problem,
        details=details,
    )


def _train(job: Job, options: TrainOptions) -> tuple[Stopwatch, str | None]:
    device = select_device(options.device)
    reader, geometry = ShardReader(options.data), ModelGeometry.from_hf_config(options.geometry_source)
    order = SampleOrder(
        num_samples=reader.num_samples, global_batch_size=options.global_batch_size, shuffle=False, seed=0
    )
    start_up.check_lengths(reader, options, geometry)
    start_up.describe(options, device, geometry, reader, order)
    learner = pretrain_sft.make_learner(options, geometry, device)
    batches = pretrain_sft.make_batches(options, geometry, device, reader, order)
    if job.peer == "unpacked":
        batches = UnpackedBatches(**{field.name: getattr(batches, field.name) for field in fields(batches)})
    stopwatch = Stopwatch(learner)
    monitor = pretrain_sft.make_monitor(options, 0)
    trainer = Trainer(
        options=options,
        learner=learner,
        batches=batches,
        saver=NoSaver(),
        figures=pretrain_sft.make_figures(options, geometry, learner, batches),
        monitor=monitor,
    )
    try:
        with profiling(options, 0, device, first_iteration=1) as traced:

            def after_each() -> None:
                stopwatch.after_iteration()
                traced()

            trainer.train(1, after_each)
    except torch.OutOfMemoryError:
        return stopwatch, OUT_OF_MEMORY
    finally:
        monitor.close()
    return stopwatch, None


def _steps(metrics: Path, stopwatch: Stopwatch) -> list[Step]:
    return [
        Step(
            loss=record["loss"],
            grad_norm=record["grad_norm"],
            tokens=record["tokens"],
            places=record["num_places"],
            num_rows=record["num_rows"],
            seconds=record["step_time_s"],
            data_s=record["data_wait_s"],
            forward_backward_s=forward_backward_s,
            update_s=update_s,
        )
        for record, forward_backward_s, update_s in zip(
            read_jsonl(metrics), stopwatch.forward_backward_s, stopwatch.update_s, strict=False
        )
    ]


def _how(options: TrainOptions) -> dict[str, Any]:
    device = select_device(options.device)
    chosen = chosen_backends(options, device)
    parts = ("attention", "optimizer", "FP8")
    given = {"precision": precision.describe(options), "recomputed": options.recompute_granularity}
    return {name: chosen[name] for name in parts} | given


def _versions() -> dict[str, str]:
    found = {"torch": torch.__version__, "megatron-core": version("megatron-core")}
    transformer_engine = backends.transformer_engine_version()
    return found | ({"TransformerEngine": transformer_engine} if transformer_engine else {})
