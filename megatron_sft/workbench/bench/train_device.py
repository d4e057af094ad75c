"""What the device of a peer is, what it took, and what it reaches at most."""

import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable

import torch

_REPEATS = 10


def device_name(device: torch.device) -> str:
    """As the driver says, or the processor's architecture."""
    return platform.machine() if device.type == "cpu" else torch.cuda.get_device_name(device)


def memory_peaks(device: torch.device) -> tuple[int, int | None]:
    """Bytes since the start of the process: allocated and reserved on a GPU; resident, and None, on a CPU."""
    if device.type == "cpu":
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return (peak if sys.platform == "darwin" else peak * 1024), None
    return torch.cuda.max_memory_allocated(device), torch.cuda.max_memory_reserved(device)


def ceilings(device: torch.device) -> dict[str, float]:
    """What simple operations reach: `tflops` of a large bf16 product, `bandwidth` in bytes/s of a large copy.

    A copy counts the bytes read and those written.
    """
    size, num_bytes = (8192, 2**30) if device.type == "cuda" else (256, 2**22)
    left, right = (torch.randn(size, size, device=device).bfloat16() for _ in range(2))
    source = torch.empty(num_bytes, dtype=torch.uint8, device=device).random_()
    target = torch.empty_like(source)
    product_s = _seconds(lambda: left @ right, device)
    copy_s = _seconds(lambda: target.copy_(source), device)
    return {"tflops": 2 * size**3 / product_s / 1e12, "bandwidth": 2 * num_bytes / copy_s}


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    """Median of some runs after as many that do not count."""
    seconds = []
    for _ in range(2 * _REPEATS):
        _synchronize(device)
        started = time.perf_counter()
        work()
        _synchronize(device)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[_REPEATS:])


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
