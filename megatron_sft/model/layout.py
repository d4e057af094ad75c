"""How a model and its rows are split over ranks, and what that asks of both.

Plain Python: nothing in this module depends on torch.
"""

import math
from dataclasses import dataclass

from megatron_sft.errors import ConfigError
from megatron_sft.model.geometry import ModelGeometry


@dataclass(frozen=True, kw_only=True)
class ParallelLayout:
    """How many ways the model and the data are split."""

    tensor_model_parallel_size: int = 1
    """Ranks that share each layer's matrices (tp)."""

    pipeline_model_parallel_size: int = 1
    """Consecutive groups of layers (pp)."""

    context_parallel_size: int = 1
    """Ranks that share each row's tokens (cp)."""

    virtual_stages: int = 1
    """Parts of the model that each pipeline rank holds, in turn with the other ranks (interleaved schedule)."""

    sequence_parallel: bool = False
    """Split the tokens between attention and feed-forward over the tensor-parallel ranks as well."""

    @property
    def document_multiple(self) -> int:
        """Each document of a row is padded to a multiple of this: context-parallel ranks take two pieces of each."""
        return 2 * self.context_parallel_size if self.context_parallel_size > 1 else 1

    @property
    def row_multiple(self) -> int:
        """Rows have a multiple of this many tokens."""
        tokens_split = self.tensor_model_parallel_size if self.sequence_parallel else 1
        return math.lcm(self.document_multiple, self.context_parallel_size * tokens_split)

    @property
    def row_multiple_on_gpus(self) -> int:
        """The same where speed counts: on every rank a multiple of 16, as FP8 needs it, and of 128 in all.

        TransformerEngine's attention makes a graph for each size that it meets, so there should not be many.
        """
        tokens_split = self.tensor_model_parallel_size if self.sequence_parallel else 1
        return math.lcm(self.row_multiple, 128, 16 * self.context_parallel_size * tokens_split)

    @property
    def needs_equal_rows(self) -> bool:
        """Megatron-Core's interleaved schedule knows no rows of different lengths within an iteration."""
        return self.virtual_stages > 1

    @property
    def rows_per_rank_multiple(self) -> int:
        """The interleaved schedule takes micro-batches in groups of one for each pipeline rank."""
        return self.pipeline_model_parallel_size if self.virtual_stages > 1 else 1

    def data_parallel_size(self, world_size: int) -> int:
        """Ranks left for data parallelism.

        Raises:
            ConfigError: when `world_size` is not a multiple of tp x pp x cp.
        """
        model_size = self.tensor_model_parallel_size * self.pipeline_model_parallel_size * self.context_parallel_size
        if world_size % model_size:
            raise ConfigError(
                f"{world_size} processes cannot be split into tp {self.tensor_model_parallel_size} x pp "
                f"{self.pipeline_model_parallel_size} x cp {self.context_parallel_size} = {model_size}: "
                "start a multiple of that number (torchrun --nproc-per-node, --nnodes)"
            )
        return world_size // model_size


def uneven_split(geometry: ModelGeometry, layout: ParallelLayout) -> tuple[str, int, int, str] | None:
    """The first part of the model that the layout cannot split evenly; None where it splits all.

    Returns:
        `tp`, `pp` or `pp x virtual stages`; its size; the number that it does not divide, and of what.
    """
    tp, pp = layout.tensor_model_parallel_size, layout.pipeline_model_parallel_size
    splits = [
        ("tp", tp, geometry.num_attention_heads, "attention heads"),
        ("tp", tp, geometry.num_query_groups, "query groups (key-value heads)"),
        ("tp", tp, geometry.ffn_hidden_size, "ffn_hidden_size"),
        ("pp", pp, geometry.num_layers, "layers"),
        ("pp x virtual stages", pp * layout.virtual_stages, geometry.num_layers, "layers"),
    ]
    return next((split for split in splits if split[2] % split[1]), None)
