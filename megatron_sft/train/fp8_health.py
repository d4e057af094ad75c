"""Whether FP8 numbers stay within their range, as far as TransformerEngine keeps a record of it.

With delayed scaling a module keeps, for each tensor that it quantizes, the largest absolute values (amax) of the last
passes and the scale that follows from them, in `fp8_meta["scaling_fwd"]` and `fp8_meta["scaling_bwd"]`: `amax_history`
float32[history, tensors] (row 0 is being written; a pass ends by moving it to the last row) and `scale`
float32[tensors]. Current and block scaling keep nothing: scales are made and used within a kernel.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_STATES = ("scaling_fwd", "scaling_bwd")


@dataclass(frozen=True, kw_only=True)
class Fp8Health:
    """Of one rank's modules."""

    amax: float
    """Largest finite amax of the passes looked at."""
    num_bad: int
    """Tensors with an amax that is not finite, or a scale that is not finite or not above 0."""


def fp8_health(modules: Iterable[torch.nn.Module], num_passes: int) -> Fp8Health | None:
    """What the last `num_passes` (rows) left in the records; None where no module keeps any.

    One transfer from the device, whatever the number of modules.
    """
    amaxes, bad = [], []
    for state in _recording_states(modules):
        history: Tensor = state.amax_history
        recent = torch.cat([history[:1], history[-num_passes:]])
        finite = recent.isfinite()
        amaxes.append(recent.where(finite, 0.0).max())
        is_bad = ~finite.all(dim=0) | ~state.scale.isfinite() | (state.scale <= 0)
        bad.append(is_bad.sum())
    if not amaxes:
        return None
    amax, num_bad = torch.stack([torch.stack(amaxes).max().double(), torch.stack(bad).sum().double()]).tolist()
    return Fp8Health(amax=amax, num_bad=int(num_bad))


def _recording_states(modules: Iterable[torch.nn.Module]) -> Iterator[Any]:
    """TransformerEngine's states that have a history; `fp8_meta` is empty before a module's first FP8 pass."""
    for root in modules:
        for module in root.modules():
            meta = getattr(module, "fp8_meta", None)
            states = (meta.get(name) for name in _STATES) if isinstance(meta, dict) else ()
            yield from (state for state in states if getattr(state, "amax_history", None) is not None)
