"""The device that a run uses, and the only place that knows Megatron-Core expects CUDA.

Megatron-Core names CUDA throughout: `torch.cuda.current_device()` as the device of its buffers, `device="cuda"`
literals, CUDA random states, streams, and comparisons with `torch.cuda.FloatTensor`. On a machine without a GPU the
same code runs with gloo once these names mean the CPU. `Device.activate()` makes it so for a block of code and restores
everything afterwards; on CUDA it does nothing, so the trainer has one code path.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode

from megatron_sft.errors import ConfigError, EnvironmentProblem

CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class Device:
    """Where tensors live and how ranks talk to each other."""

    torch_device: torch.device
    """`cpu`, or `cuda:LOCAL_RANK`."""

    backend: str
    """`torch.distributed` backend: `gloo` or `nccl`."""

    @property
    def is_cpu(self) -> bool:
        """Whether Megatron-Core has to be redirected."""
        return self.torch_device.type == "cpu"

    @contextlib.contextmanager
    def activate(self) -> Iterator[None]:
        """Run a block with this device as the current one."""
        if self.is_cpu:
            with _cuda_means_cpu():
                yield
        else:
            with torch.cuda.device(self.torch_device):
                yield

    def synchronize(self) -> None:
        """Wait for queued GPU work, so that wall-clock times mean something."""
        if not self.is_cpu:
            torch.cuda.synchronize(self.torch_device)


def select_device(requested: str = "auto") -> Device:
    """Resolve `auto`, `cpu` or `cuda` for this process (rank taken from torchrun's `LOCAL_RANK`).

    Raises:
        ConfigError: for any other word.
        EnvironmentProblem: when CUDA is asked for and torch sees no GPU for this rank.
    """
    if requested not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"--device {requested}: expected auto, cpu or cuda")
    if requested == "cpu" or (requested == "auto" and not torch.cuda.is_available()):
        return Device(torch_device=CPU, backend="gloo")
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    num_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if local_rank >= num_gpus:
        raise EnvironmentProblem(
            f"local rank {local_rank} has no GPU: torch sees {num_gpus}. Start at most that many processes per node, "
            "or pass --device cpu"
        )
    return Device(torch_device=torch.device("cuda", local_rank), backend="nccl")


@contextlib.contextmanager
def process_group(device: Device, *, timeout_minutes: float = 30.0) -> Iterator[None]:
    """Open the default process group from torchrun's variables (a single process needs none) and close it again."""
    if "RANK" in os.environ:
        arguments: dict[str, Any] = {}
    else:
        store = torch.distributed.TCPStore("127.0.0.1", 0, 1, True)  # type: ignore[attr-defined]
        arguments = {"store": store, "rank": 0, "world_size": 1}
    if not device.is_cpu:
        arguments["device_id"] = device.torch_device
    timeout = timedelta(minutes=timeout_minutes)
    torch.distributed.init_process_group(device.backend, timeout=timeout, **arguments)
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()


class _DeviceLiteralMode(TorchFunctionMode):
    """Maps `device="cuda"` arguments of torch functions to the CPU."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if kwargs:
            device = kwargs.get("device")
            if device is not None and _names_cuda(device):
                kwargs = {**kwargs, "device": CPU}
            return func(*args, **kwargs)
        return func(*args)


def _names_cuda(device: Any) -> bool:
    return str(device).startswith("cuda")


class _NoStream:
    """Stands where a CUDA stream or event is expected: work on the CPU is in order already."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __enter__(self) -> "_NoStream":
        return self

    def __exit__(self, *_: Any) -> None:
        return None

    def wait_stream(self, _: Any) -> None:
        """Nothing to wait for."""

    def wait_event(self, _: Any) -> None:
        """Nothing to wait for."""

    def synchronize(self) -> None:
        """Nothing to wait for."""

    def record(self, *_: Any) -> None:
        """Nothing to record."""

    def query(self) -> bool:
        """All work is done."""
        return True


@contextlib.contextmanager
def _cuda_means_cpu() -> Iterator[None]:
    from megatron.core.tensor_parallel import random as tp_random

    tensor_type = torch.Tensor.type

    def type_as_cuda(tensor: torch.Tensor, dtype: Any = None, *args: Any, **kwargs: Any) -> Any:
        if dtype is None:
            # Under the mode above torch looks this method up by name and so may come through here twice.
            name = str(tensor_type(tensor))
            return name if name.startswith("torch.cuda.") else name.replace("torch.", "torch.cuda.", 1)
        if isinstance(dtype, str):
            dtype = dtype.replace("torch.cuda.", "torch.")
        return tensor_type(tensor, dtype, *args, **kwargs)

    def keep(tensor: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        return tensor

    def do_nothing() -> Callable[..., None]:
        # A new function each time: torch's compiler keeps a table of torch's functions and wants them distinct.
        return lambda *_, **__: None

    replacements: list[tuple[Any, str, Any]] = [
        (torch.cuda, "current_device", lambda: CPU),
        (torch.cuda, "synchronize", do_nothing()),
        (torch.cuda, "empty_cache", do_nothing()),
        (torch.cuda, "set_device", do_nothing()),
        (torch.cuda, "Stream", _NoStream),
        (torch.cuda, "Event", _NoStream),
        (torch.cuda, "stream", _NoStream),
        (torch.cuda, "current_stream", _NoStream),
        (torch.cuda, "manual_seed", torch.manual_seed),
        (torch.cuda, "get_rng_state", lambda *_, **__: torch.get_rng_state()),
        (torch.cuda, "set_rng_state", lambda state, *_, **__: torch.set_rng_state(state)),
        (torch.Tensor, "cuda", keep),
        (torch.nn.Module, "cuda", keep),
        (torch.Tensor, "type", type_as_cuda),
        (tp_random, "_get_cuda_rng_state", lambda *_, **__: torch.get_rng_state()),
        (tp_random, "_set_cuda_rng_state", lambda state, *_, **__: torch.set_rng_state(state)),
    ]
    with contextlib.ExitStack() as stack:
        for owner, name, value in replacements:
            stack.enter_context(mock.patch.object(owner, name, value))
        stack.enter_context(_DeviceLiteralMode())
        yield
