"""Train a model on shards: `torchrun --nproc-per-node N megatron_sft/pretrain_sft.py --data DIR ...`.

This file only puts the parts together; `--help` lists the options, docs/batches-and-loss.md and docs/checkpoints.md
say what they mean, docs/recipes.md how a YAML file gives them.
"""

import sys
from dataclasses import asdict

import torch

from megatron_sft.convert.hf_weights import load_hf_into
from megatron_sft.data.order import SampleOrder
from megatron_sft.data.packing import RowCost
from megatron_sft.data.shards import ShardReader
from megatron_sft.files import write_json
from megatron_sft.model.device import Device, process_group, select_device
from megatron_sft.model.geometry import ModelGeometry
from megatron_sft.model.gpt import (
    build_chunks,
    context_parallel_rank,
    data_parallel_rank_and_size,
    model_parallel,
    transformer_config,
)
from megatron_sft.recipes import resolve
from megatron_sft.recipes.resolved import Resolved
from megatron_sft.train import assets, precision, start_up
from megatron_sft.train.batch import BatchBuilder
from megatron_sft.train.checkpoint import CheckpointStore
from megatron_sft.train.figures import Figures
from megatron_sft.train.learner import Learner, build_learner
from megatron_sft.train.monitor import Monitor, SpikeRule
from megatron_sft.train.options import TrainOptions
from megatron_sft.train.profiling import profiling
from megatron_sft.train.saving import Saver
from megatron_sft.train.sources import sources_of
from megatron_sft.train.trainer import Trainer
from megatron_sft.train.wandb_run import WandbRun
from megatron_sft.train.watchdog import Watchdog, open_board


def main(resolved: Resolved[TrainOptions]) -> None:
    """Train with these options on the device that they choose."""
    device = select_device(resolved.options.device)
    timeout = resolved.options.distributed_timeout_minutes
    with process_group(device, timeout_minutes=timeout), device.activate():
        train(resolved.options, device, resolved)


def train(options: TrainOptions, device: Device, resolved: Resolved[TrainOptions] | None = None) -> None:
    """Check everything that can be checked without a model, then build, resume and train.

    Needs the default process group; Megatron-Core's groups live as long as the call. `resolved` has the origins of the
    options, which are written beside the checkpoints.
    """
    reader = ShardReader(options.data)
    geometry = ModelGeometry.from_hf_config(options.geometry_source)
    assets.check_tokenizer(options, reader, geometry)
    order = SampleOrder(
        num_samples=reader.num_samples,
        global_batch_size=options.global_batch_size,
        shuffle=options.shuffle,
        seed=options.seed,
    )
    start_up.check_lengths(reader, options, geometry)
    precision.check(options, device)
    with model_parallel(options.layout, timeout_minutes=options.distributed_timeout_minutes):
        rank = torch.distributed.get_rank()
        is_first = rank == 0
        if is_first:
            start_up.describe(options, device, geometry, reader, order)
        learner = make_learner(options, geometry, device)
        checkpoints = CheckpointStore(
            save=options.save,
            hf_assets=options.save / "hf_assets",
            identity=start_up.identity(options, geometry, reader),
            description={"options": options.as_dict(), "stop_token_ids": [reader.stop_token_id]},
        )
        checkpoints.discard_incomplete()
        done = checkpoints.restore(learner)
        # Only now: a run that is refused here leaves the folder as it was.
        if is_first:
            assets.collect(options, geometry, checkpoints.hf_assets)
            write_json(options.save / "run_config.json", {"options": options.as_dict(), "geometry": asdict(geometry)})
            if resolved:
                resolved.save(options.save)
        if is_first and done:
            print(f"resuming after iteration {done} from {options.save}", flush=True)
        batches = make_batches(options, geometry, device, reader, order)
        if is_first and done < options.train_iters:
            start_up.show_first_sample(options, reader, batches.build(done).sample_indices[0])
        monitor = make_monitor(options, done) if is_first else None
        trainer = Trainer(
            options=options,
            learner=learner,
            batches=batches,
            saver=Saver(options, learner, checkpoints, is_first_rank=is_first),
            figures=make_figures(options, geometry, learner, batches),
            monitor=monitor,
        )
        timeout_s = 60 * options.distributed_timeout_minutes
        watchdog = Watchdog(progress=learner.progress, board=open_board(), timeout_s=timeout_s)
        try:
            with profiling(options, rank, device, first_iteration=done + 1) as after_each, watchdog.watching():
                trainer.train(done + 1, after_each)
        finally:
            if monitor:
                monitor.close()


def make_batches(
    options: TrainOptions, geometry: ModelGeometry, device: Device, reader: ShardReader, order: SampleOrder
) -> BatchBuilder:
    """What builds this rank's rows."""
    dp_rank, dp_size = data_parallel_rank_and_size()
    return BatchBuilder(
        reader=reader,
        order=order,
        seq_length=options.seq_length,
        dp_rank=dp_rank,
        dp_size=dp_size,
        cost=RowCost(hidden_size=geometry.hidden_size),
        length_multiple=_length_multiple(options, device),
        equal_lengths=options.layout.needs_equal_rows,
        weighting=options.weighting,
        layout=options.layout,
        cp_rank=context_parallel_rank(),
    )


def _length_multiple(options: TrainOptions, device: Device) -> int:
    if options.constant_row_length:
        return options.seq_length
    return options.layout.row_multiple if device.is_cpu else options.layout.row_multiple_on_gpus


def make_monitor(options: TrainOptions, resumed_iteration: int) -> Monitor:
    """What writes the figures down, on rank 0."""
    wandb_run = None
    if options.wandb_project:
        config = options.as_dict()
        wandb_run = WandbRun(options.save, project=options.wandb_project, name=options.wandb_name, config=config)
    return Monitor(
        options.save,
        options.tensorboard_folder,
        resumed_iteration=resumed_iteration,
        spike_rule=SpikeRule(window=options.spike_window, factor=options.spike_factor),
        wandb_run=wandb_run,
    )


def make_figures(options: TrainOptions, geometry: ModelGeometry, learner: Learner, batches: BatchBuilder) -> Figures:
    """What gathers the figures of each iteration."""
    return Figures(
        learner=learner,
        reader=batches.reader,
        geometry=geometry,
        dp_size=batches.dp_size,
        steps_per_epoch=batches.order.steps_per_epoch,
        sources=sources_of(batches.reader.manifest),
        peak_tflops=start_up.peak(options, learner.device),
        clip_grad=options.clip_grad,
        params_norm_interval=options.log_params_norm_interval,
    )


def make_learner(options: TrainOptions, geometry: ModelGeometry, device: Device) -> Learner:
    """The model with its initial weights, and what updates it."""
    fields = {**options.recompute_options, **precision.transformer_fields(options, device)}
    dtype = precision.weight_dtype(options)
    config = transformer_config(geometry, options.layout, device, dtype=dtype, **fields)
    chunks = build_chunks(config, geometry, device, seed=options.seed)
    if options.init_from:
        for chunk in chunks:
            load_hf_into(chunk, geometry, options.init_from)
    return build_learner(chunks, geometry.vocab_size, options, device)


if __name__ == "__main__":
    sys.exit(resolve.run(TrainOptions, main, prog="pretrain_sft.py"))
