"""RMSNorm in plain torch, for machines without TransformerEngine."""

from typing import Any

import megatron_sft.model.lean_megatron  # noqa: F401

import torch
from megatron.core.transformer.transformer_config import TransformerConfig


class TorchRMSNorm:
    """Builds `torch.nn.RMSNorm` where Megatron-Core's layer specifications name a norm.

    Megatron-Core's own wrapper refuses sequence parallelism. It only needs the mark below: each tensor-parallel rank
    sees a part of the tokens, so the gradients of the weight are to be summed over them.
    """

    def __new__(cls, config: TransformerConfig, hidden_size: int, eps: float = 1e-5, **_: Any) -> Any:
        """The norm over the last dimension, `hidden_size` wide."""
        norm = torch.nn.RMSNorm(hidden_size, eps=eps)
        norm.weight.sequence_parallel = config.sequence_parallel  # type: ignore[attr-defined]
        return norm
