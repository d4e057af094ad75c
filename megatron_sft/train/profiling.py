"""A trace of a few iterations, for TensorBoard's profiler plugin and chrome://tracing."""

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch.profiler import ProfilerActivity

from megatron_sft.model.device import Device
from megatron_sft.train.options import TrainOptions


@contextlib.contextmanager
def profiling(
    options: TrainOptions, rank: int, device: Device, *, first_iteration: int
) -> Iterator[Callable[[], None]]:
    """Give a function to call after each iteration, counted from `first_iteration`.

    With `--profile`, on the ranks it names, iterations from `--profile-step-start` up to `--profile-step-end` go into
    `rankR.TIME.pt.trace.json` in the TensorBoard folder. Where a resumed run is beyond them, nothing is traced.
    """
    left = options.profile_step_end - max(options.profile_step_start, first_iteration)
    if not options.profile or rank not in options.listed_profile_ranks() or left <= 0:
        yield lambda: None
        return
    skipped = max(options.profile_step_start - first_iteration, 0)
    # The profiler's own start-up would be part of the first iteration that it records.
    warmup = min(skipped, 1)
    activities = [ProfilerActivity.CPU] if device.is_cpu else [ProfilerActivity.CPU, ProfilerActivity.CUDA]
    with torch.profiler.profile(
        activities=activities,
        schedule=torch.profiler.schedule(skip_first=skipped - warmup, wait=0, warmup=warmup, active=left, repeat=1),
        on_trace_ready=torch.profiler.tensorboard_trace_handler(
            str(options.tensorboard_folder), worker_name=f"rank{rank}"
        ),
    ) as profiler:
        yield profiler.step
