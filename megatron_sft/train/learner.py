"""The model with everything that updates it: Megatron-Core's DDP, AdamW and learning rate schedule."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import megatron_sft.model.lean_megatron  # noqa: F401

import torch
from megatron.core.distributed import (
    DistributedDataParallel,
    DistributedDataParallelConfig,
    finalize_model_grads,
)
from megatron.core.models.gpt import GPTModel
from megatron.core.optimizer import MegatronOptimizer, OptimizerConfig, get_megatron_optimizer
from megatron.core.optimizer_param_scheduler import OptimizerParamScheduler
from megatron.core.pipeline_parallel import get_forward_backward_func
from torch import Tensor

from megatron_sft.model.device import Device
from megatron_sft.train import precision
from megatron_sft.train.batch import Row, StepBatch
from megatron_sft.train.loss import RowLoss
from megatron_sft.train.options import TrainOptions
from megatron_sft.train.output import OutputInPieces
from megatron_sft.train.progress import Progress
from megatron_sft.train.pure_bf16 import pure_bf16


@dataclass(frozen=True, kw_only=True)
class Learner:
    """One rank's share of a model in training."""

    device: Device
    chunks: list[DistributedDataParallel]
    """The parts of the model that this rank holds: one for each virtual pipeline stage."""
    optimizer: MegatronOptimizer
    scheduler: OptimizerParamScheduler
    output: OutputInPieces | None
    """Logits and loss, on ranks that hold the last stage."""
    progress: Progress
    """Where this rank is."""

    def accumulate(self, batch: StepBatch) -> list[RowLoss]:
        """Forward and backward over the rows; gradients end up reduced over all ranks.

        Returns:
            One for each row; empty on ranks that do not hold the last stage.
        """
        for chunk in self.chunks:
            chunk.zero_grad_buffer()
        self.optimizer.zero_grad()
        with self.progress.forward_backward():
            losses: list[RowLoss] = get_forward_backward_func()(
                forward_step_func=partial(_forward_step, self.output),
                data_iterator=[self.progress.rows(batch.rows) for _ in self.chunks],
                model=self.chunks,
                num_microbatches=len(batch.rows),
                seq_length=batch.longest_row,
                micro_batch_size=1,
                forward_only=False,
            )
        return losses

    def gradient_norm(self) -> float:
        """Global L2 norm of the gradients, before clipping; the same on every rank."""
        found_inf = self.optimizer.prepare_grads()
        return float("inf") if found_inf else float(self.optimizer.get_grad_norm())

    def update(self, global_batch_size: int) -> None:
        """Clip, step the optimizer and advance the learning rate schedule."""
        succeeded, _, _ = self.optimizer.step()
        assert succeeded, "fp32 and bf16 training has no loss scale that could skip a step"
        self.scheduler.step(increment=global_batch_size)

    @contextlib.contextmanager
    def whole_weights(self) -> Iterator[None]:
        """For a block in which every rank's weights are those of the last update.

        Where gathering overlaps with the next forward pass, they are gathered now.
        """
        overlapping = [chunk for chunk in self.chunks if chunk.ddp_config.overlap_param_gather]
        for chunk in overlapping:
            chunk.disable_forward_pre_hook()
        try:
            yield
        finally:
            for chunk in overlapping:
                chunk.enable_forward_pre_hook()

    def learning_rate(self) -> float:
        """Learning rate of the next update."""
        return float(self.optimizer.param_groups[0]["lr"])


def build_learner(models: list[GPTModel], vocab_size: int, options: TrainOptions, device: Device) -> Learner:
    """Wrap the parts of a model, which must hold their initial weights, into DDP, with an optimizer and a schedule."""
    config, last = models[0].config, models[-1]
    ddp_config = DistributedDataParallelConfig(**precision.data_parallel_fields(options, device))
    chunks = [
        # Only the first chunk's backward pass ends last, so only its gradients are worth sending in parts.
        DistributedDataParallel(config=config, ddp_config=ddp_config, module=model, disable_bucketing=number > 0)
        for number, model in enumerate(models)
    ]
    # The loss is weighted over the global batch already: the token count must not divide the gradients again.
    progress = Progress(device)
    config.finalize_model_grads_func = partial(_finalize_gradients, progress)
    if ddp_config.overlap_grad_reduce:
        # Of several rows only the last one's backward pass sends gradients.
        no_syncs = [chunk.no_sync for chunk in chunks]
        syncs = [chunk.start_grad_sync for chunk in chunks]
        config.no_sync_func = no_syncs if len(chunks) > 1 else no_syncs[0]
        if config.pipeline_model_parallel_size > 1:
            # All stages send at the same time, lest one waits for another's messages.
            config.grad_sync_func = syncs if len(chunks) > 1 else syncs[0]
    optimizer = _build_optimizer(chunks, options)
    config.grad_scale_func = optimizer.scale_loss
    return Learner(
        device=device,
        chunks=chunks,
        optimizer=optimizer,
        scheduler=_schedule(optimizer, options),
        output=OutputInPieces(last, vocab_size, options.loss_piece_tokens) if last.post_process else None,
        progress=progress,
    )


def _build_optimizer(chunks: list[DistributedDataParallel], options: TrainOptions) -> MegatronOptimizer:
    """AdamW, its state spread over the data-parallel ranks."""
    config = OptimizerConfig(
        optimizer="adam",
        lr=options.lr,
        min_lr=options.min_lr,
        weight_decay=options.weight_decay,
        adam_beta1=options.adam_beta1,
        adam_beta2=options.adam_beta2,
        adam_eps=options.adam_eps,
        clip_grad=options.clip_grad,
        **precision.optimizer_fields(options),
    )
    with pure_bf16() if options.pure_bf16 else contextlib.nullcontext():
        optimizer: MegatronOptimizer = get_megatron_optimizer(config, chunks)
    if options.decay_norms_and_biases:
        for group in optimizer.param_groups:
            group["wd_mult"] = 1.0
    return optimizer


def _schedule(optimizer: MegatronOptimizer, options: TrainOptions) -> OptimizerParamScheduler:
    """Linear warm-up, then decay; counted in samples, as Megatron does."""
    batch = options.global_batch_size
    return OptimizerParamScheduler(
        optimizer,
        init_lr=0.0,
        max_lr=options.lr,
        min_lr=options.min_lr,
        lr_warmup_steps=options.lr_warmup_iters * batch,
        lr_decay_steps=options.train_iters * batch,
        lr_decay_style=options.lr_decay_style,
        start_wd=options.weight_decay,
        end_wd=options.weight_decay,
        wd_incr_steps=options.train_iters * batch,
        wd_incr_style="constant",
        use_checkpoint_opt_param_scheduler=False,
    )


def _finalize_gradients(progress: Progress, models: list[Any], num_tokens: Any = None, **kwargs: Any) -> None:
    progress.reducing()
    finalize_model_grads(models, None, **kwargs)


def _forward_step(output: OutputInPieces | None, rows: Iterator[Row], model: torch.nn.Module) -> tuple[Tensor, Any]:
    row = next(rows)
    hidden = model(row.tokens, row.position_ids, None, packed_seq_params=row.packed_seq_params())
    return hidden, partial(output.loss, row) if output else None
