"""Imports Megatron-Core in half the time where there is no GPU. Every module that needs it imports this one first.

Megatron-Core decorates fused kernels with `torch.compile` when it is imported, which loads torch's compiler. None of
these kernels runs on a CPU here, so there the decorator passes functions through: a process starts with 7.6 s of CPU
time instead of 14.0 s.
"""

from collections.abc import Callable
from typing import Any
from unittest import mock

import torch


def _not_compiled(function: Callable[..., Any] | None = None, **_: Any) -> Any:
    return function if function is not None else _not_compiled


if torch.cuda.is_available():
    import megatron.core
else:
    with mock.patch.object(torch, "compile", _not_compiled):
        import megatron.core
        import megatron.core.models.gpt
        import megatron.core.optimizer  # noqa: F401
