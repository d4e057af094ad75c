"""Writing a sharded state in Megatron-Core's distributed checkpoint format, from within this process."""

import queue
from pathlib import Path
from typing import Any

import megatron_sft.model.lean_megatron  # noqa: F401

from megatron.core import dist_checkpointing
from megatron.core.dist_checkpointing.strategies import filesystem_async
from megatron.core.dist_checkpointing.strategies.torch import TorchDistSaveShardedStrategy


def save_sharded(state: dict[str, Any], folder: Path) -> None:
    """Write `state` into the existing, empty `folder`. Collective; it returns when every rank's files are there.

    The writer hands its results over through a queue for which it would start a manager process, and that process would
    import the whole program again (10 s). Saving is synchronous here, so a queue between threads does.
    """
    filesystem_async._results_queue = queue.Queue()
    dist_checkpointing.save(state, str(folder), TorchDistSaveShardedStrategy("torch_dist", 1, thread_count=1))
