"""Writing a sharded state in Megatron-Core's distributed checkpoint format, from a thread of this process."""

import contextlib
import inspect
import logging
import queue
import threading
from pathlib import Path
from typing import Any
from unittest import mock

import megatron_sft.model.lean_megatron  # noqa: F401

from megatron.core import dist_checkpointing
from megatron.core.dist_checkpointing.strategies import filesystem_async
from megatron.core.dist_checkpointing.strategies import torch as torch_strategy
from megatron.core.dist_checkpointing.strategies.filesystem_async import FileSystemWriterAsync
from megatron.core.dist_checkpointing.strategies.torch import TorchDistSaveShardedStrategy
from torch.distributed.checkpoint.api import CheckpointException

from megatron_sft.errors import CheckpointError


class ShardedSave:
    """One checkpoint on its way to disk; a thread writes this rank's files while training goes on.

    Making one and `finish` are collective. Megatron-Core would write from another process, for which it hands results
    over through a queue of a manager process that imports the whole program again (10 s); megatron-core 0.16 moreover
    forks a process for each file, which can hang in a program with threads. A thread does: what takes time in writing
    does not hold Python's lock.
    """

    def __init__(self, state: dict[str, Any], folder: Path) -> None:
        """Copy `state` to the host's memory and begin to write it into the existing, empty `folder`.

        The tensors may change as soon as this returns.
        """
        self._folder = folder
        self._request = _plan(state, folder)
        arguments = list(self._request.async_fn_args)
        if self._request.preload_fn is not None:
            # The second one is what to write: files, each with its tensors.
            arguments[1] = _apart(arguments[1], self._request.preload_fn())
        self._thread = threading.Thread(target=self._write, args=arguments, name="checkpoint", daemon=True)
        self._thread.start()

    def is_written(self) -> bool:
        """Whether this rank's files are there, or writing them has failed; `finish` tells which."""
        return not self._thread.is_alive()

    def finish(self) -> None:
        """Wait for all ranks' files and write what says where in them each tensor is.

        Raises:
            CheckpointError: on the first rank when some rank could not write, with its reason.
        """
        self._thread.join()
        try:
            for finalize in self._request.finalize_fns:
                finalize()
        except CheckpointException as error:
            reasons = "; ".join(f"rank {rank}: {reason}" for rank, (reason, _) in error.failures.items())
            raise CheckpointError(
                f"{self._folder} could not be written ({reasons}): see to the disk; the same command goes on from the "
                "checkpoint before it"
            ) from error

    def _write(self, *arguments: Any) -> None:
        if self._request.async_fn is not None:
            self._request.async_fn(*arguments, **self._request.async_fn_kwargs)


def _plan(state: dict[str, Any], folder: Path) -> Any:
    """Megatron-Core's request to write `state`: what to call with which tensors, and what to do when all have."""
    filesystem_async._results_queue = queue.Queue()
    # Where there is a choice: the writer that this module knows.
    own = "async_strategy" in inspect.signature(dist_checkpointing.save).parameters
    options = {"async_strategy": "mcore"} if own else {}
    strategy = TorchDistSaveShardedStrategy("torch_dist", 1, thread_count=1)
    with contextlib.ExitStack() as stack:
        torch_strategy.logger.addFilter(_is_news)
        stack.callback(torch_strategy.logger.removeFilter, _is_news)
        if hasattr(FileSystemWriterAsync, "write_preloaded_data_multiproc"):
            writer = staticmethod(_write_in_this_process)
            stack.enter_context(mock.patch.object(FileSystemWriterAsync, "write_preloaded_data_multiproc", writer))
        return dist_checkpointing.save(state, str(folder), strategy, async_sharded_save=True, **options)


def _is_news(record: logging.LogRecord) -> bool:
    """All messages but the one that Megatron-Core's own way to write in the background will go."""
    return "async save is deprecated" not in record.getMessage()


def _apart(buckets: list[Any], on_host: list[Any]) -> list[Any]:
    """The files of `on_host`, where those of `buckets` are copied to, but for tensors that were there already."""
    files = []
    for (_, _, (_, tensors)), (path, name, (entries, copies)) in zip(buckets, on_host, strict=True):
        pairs = zip(tensors, copies, strict=True)
        own = [(item, copy.clone() if copy is tensor else copy) for (_, tensor), (item, copy) in pairs]
        files.append((path, name, (entries, own)))
    return files


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
