"""Writing a sharded state in Megatron-Core's distributed checkpoint format, from within this process."""

import contextlib
import queue
from pathlib import Path
from typing import Any
from unittest import mock

import megatron_sft.model.lean_megatron  # noqa: F401

from megatron.core import dist_checkpointing
from megatron.core.dist_checkpointing.strategies import filesystem_async
from megatron.core.dist_checkpointing.strategies.filesystem_async import FileSystemWriterAsync
from megatron.core.dist_checkpointing.strategies.torch import TorchDistSaveShardedStrategy


def save_sharded(state: dict[str, Any], folder: Path) -> None:
    """Write `state` into the existing, empty `folder`. Collective; it returns when every rank's files are there.

    The writer is made for saving in the background. It hands its results over through a queue for which it would start
    a manager process, and that process would import the whole program again (10 s); megatron-core 0.16 moreover forks
    a process for each file, which can hang in a program with threads. Saving is synchronous here: a queue between
    threads does, and the files are written by this process.
    """
    filesystem_async._results_queue = queue.Queue()
    with contextlib.ExitStack() as stack:
        if hasattr(FileSystemWriterAsync, "write_preloaded_data_multiproc"):
            writer = staticmethod(_write_in_this_process)
            stack.enter_context(mock.patch.object(FileSystemWriterAsync, "write_preloaded_data_multiproc", writer))
        dist_checkpointing.save(state, str(folder), TorchDistSaveShardedStrategy("torch_dist", 1, thread_count=1))


def _write_in_this_process(
    transforms: Any, use_msc: bool, rank: int, buckets: list[Any], results_queue: "queue.Queue[Any]"
) -> None:
    """Do what `write_preloaded_data_multiproc` of megatron-core 0.16 does, one file after the other."""
    results: dict[int, Any] = {}
    for number, bucket in enumerate(buckets):
        outcomes: queue.Queue[tuple[int, Any]] = queue.Queue()
        unfinished: queue.Queue[int] = queue.Queue()
        unfinished.put(number)
        FileSystemWriterAsync.write_preloaded_data(
            transforms, number, bucket, outcomes, unfinished, use_fsync=True, use_msc=use_msc
        )
        _, outcome = outcomes.get()
        if isinstance(outcome, Exception):
            results_queue.put(outcome)
            return
        results[number] = outcome
    results_queue.put(results)
