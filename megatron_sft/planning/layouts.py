"""Parallel layouts: which ones a number of GPUs allows, and why the others are refused."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from megatron_sft.model.geometry import ModelGeometry
from megatron_sft.model.layout import ParallelLayout, uneven_split


@dataclass(frozen=True, kw_only=True, order=True)
class Layout:
    """How many ways the model and the data are split. Ranks are numbered tp fastest, then cp, dp, pp."""

    tp: int = 1
    """Ranks that share each layer's matrices."""
    cp: int = 1
    """Ranks that share each row's tokens."""
    pp: int = 1
    """Groups of consecutive layers (stages)."""
    vpp: int = 1
    """Separate chunks of layers on each stage (interleaved pipeline); 1 for the plain pipeline."""
    dp: int = 1
    """Copies of the model, each with rows of its own."""

    @property
    def num_gpus(self) -> int:
        """GPUs that the layout takes."""
        return self.tp * self.cp * self.pp * self.dp

    @property
    def num_optimizer_shards(self) -> int:
        """Ranks that share one stage's optimizer states: those of dp and cp, as in Megatron's distributed optimizer."""
        return self.dp * self.cp

    def parallel(self, sequence_parallel: bool) -> ParallelLayout:
        """The same in the trainer's words; one tensor-parallel rank has no sequence parallelism."""
        return ParallelLayout(
            tensor_model_parallel_size=self.tp,
            pipeline_model_parallel_size=self.pp,
            context_parallel_size=self.cp,
            virtual_stages=self.vpp,
            sequence_parallel=sequence_parallel and self.tp > 1,
        )

    def __str__(self) -> str:
        """Such as `tp 2 pp 4 x 3 cp 1 dp 8`, where x 3 are the chunks of each stage."""
        chunks = f" x {self.vpp}" if self.vpp > 1 else ""
        return f"tp {self.tp} pp {self.pp}{chunks} cp {self.cp} dp {self.dp}"


@dataclass(frozen=True, kw_only=True)
class SplitRules:
    """What a layout has to respect besides the model."""

    gpus_per_node: int
    """GPUs that NVLink joins: tensor parallelism stays within them."""
    seq_length: int
    """Capacity of a row, tokens."""
    global_batch_size: int
    """Samples per iteration."""
    sequence_parallel: bool
    """Norms and residuals are split along the tokens over tp."""


def candidates(geometry: ModelGeometry, num_gpus: int) -> Iterator[Layout]:
    """Every way to write `num_gpus` as tp x cp x pp x dp, each with every number of chunks that its stages divide into.

    They are not checked further: `refusal` says which of them cannot run.
    """
    sizes = divisors(num_gpus)
    for tp, cp, pp in itertools.product(sizes, repeat=3):
        if num_gpus % (tp * cp * pp):
            continue
        dp = num_gpus // (tp * cp * pp)
        splits_layers = pp > 1 and geometry.num_layers % pp == 0
        for vpp in divisors(geometry.num_layers // pp) if splits_layers else [1]:
            yield Layout(tp=tp, cp=cp, pp=pp, vpp=vpp, dp=dp)


def refusal(layout: Layout, geometry: ModelGeometry, rules: SplitRules) -> str | None:
    """Why a layout cannot run, or None: by the trainer's own rules, and two of reason.

    Reason forbids tensor parallelism across nodes (four collectives a layer over the network) and more
    data-parallel ranks than samples (ranks that only ever train padding).
    """
    parallel = layout.parallel(rules.sequence_parallel)
    found = uneven_split(geometry, parallel)
    if found is not None:
        dimension, size, count, what = found
        return f"{dimension} {size} does not divide {count} {what}"
    if layout.tp > rules.gpus_per_node or rules.gpus_per_node % layout.tp:
        return f"tp {layout.tp} crosses nodes of {rules.gpus_per_node} GPUs"
    multiple = parallel.row_multiple
    if rules.seq_length % multiple:
        return (
            f"cp {layout.cp} with tp {layout.tp} needs rows of a multiple of {multiple} tokens, not {rules.seq_length}"
        )
    if layout.dp > rules.global_batch_size:
        return f"dp {layout.dp} exceeds the {rules.global_batch_size} samples of an iteration"
    return None


def divisors(number: int) -> list[int]:
    """All divisors of a positive number, ascending."""
    return [size for size in range(1, number + 1) if number % size == 0]
