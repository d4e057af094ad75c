"""Model layer: Megatron-Core GPT models and the device they run on.

Importing this package imports Megatron-Core. Where there is no GPU it does so with `torch.compile` passed through:
Megatron-Core decorates fused kernels with it at import, none of which runs on a CPU here, and the decoration loads
torch's compiler, which doubles the start-up time of every process (7.6 s of CPU instead of 14.0 s).
"""

from collections.abc import Callable
from typing import Any
from unittest import mock

import torch


def _not_compiled(function: Callable[..., Any] | None = None, **_: Any) -> Any:
    return function if function is not None else _not_compiled


def _import_megatron_core() -> None:
    if torch.cuda.is_available():
        import megatron.core
    else:
        with mock.patch.object(torch, "compile", _not_compiled):
            import megatron.core
            import megatron.core.models.gpt
            import megatron.core.optimizer  # noqa: F401


_import_megatron_core()
