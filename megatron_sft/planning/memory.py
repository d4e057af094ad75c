"""Memory of the fullest GPU of a layout, by component.

Activations are those of TransformerEngine's layers with fused attention: what autograd keeps between the forward and
the backward pass. Legend: h hidden size, q width of all queries, k width of all keys, f ffn size; "stream" is what lies
along the residual stream (split over tp by sequence parallelism only), "split" is what tp always splits.
"""

from dataclasses import dataclass
from typing import Literal

from megatron_sft.model.geometry import ModelGeometry
from megatron_sft.model.parameter_counts import attention_width, key_value_width
from megatron_sft.planning.layouts import Layout
from megatron_sft.planning.parameters import RankParameters, rank_parameters
from megatron_sft.planning.precisions import PRECISIONS, Precision, PrecisionBytes

Recompute = Literal["none", "selective", "full"]
GIB = 1024**3

CONTEXT_BYTES = 2 * GIB
"""Allowance for what lies outside torch's allocator: CUDA context, kernels, cuBLAS and cuDNN workspaces."""
GROUP_BYTES = GIB // 2
"""Allowance for NCCL's buffers, for each of tp, pp, cp, dp above 1."""
FRAGMENTATION = 0.06
"""Share of activations, logits and working set that the allocator holds beyond them."""
LOSS_CHUNK = 1024
"""Tokens whose logits exist at once in the chunked cross entropy."""


@dataclass(frozen=True, kw_only=True)
class MemoryOptions:
    """Choices of a run that decide its memory, beside model and layout."""

    precision: Precision
    """Of weights, gradients, optimizer and activations."""
    recompute: Recompute
    """What is computed again in the backward pass: nothing; the feed-forward part of each layer (Megatron's selective
    recomputation of `mlp`); or each layer from its input."""
    seq_length: int
    """Capacity of a row, tokens."""
    chunked_loss: bool
    """Whether the cross entropy makes logits of `LOSS_CHUNK` tokens at a time."""
    sequence_parallel: bool
    """Whether norms and residuals are split along the tokens over tp."""


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes on one GPU of a stage."""

    stage: int
    """Pipeline stage, counted from 0."""
    weights: int
    """As used in the forward and backward pass."""
    gradients: int
    """The buffer that they are summed and reduced in."""
    optimizer: int
    """This rank's share of main weights and moments."""
    activations: int
    """Kept for the backward pass, over all rows in flight."""
    logits: int
    """With their softmax and gradient; last stage only."""
    working: int
    """Passing tensors of the layer whose backward pass runs, with what is computed again for it."""
    allowance: int
    """For CUDA, NCCL and fragmentation: an assumption, not a count."""

    @property
    def total(self) -> int:
        """The highest point. Logits are gone when the first layer's backward pass starts."""
        fixed = self.weights + self.gradients + self.optimizer + self.allowance
        return fixed + self.activations + max(self.logits, self.working)


def peak_memory(geometry: ModelGeometry, layout: Layout, options: MemoryOptions, num_rows: int) -> Memory:
    """Memory of the stage that needs most, for `num_rows` rows per data-parallel rank and iteration."""
    # In between, stages have neither embedding nor logits, and fewer rows in flight than the first one.
    stages = sorted({0, layout.pp - 1})
    return max((stage_memory(geometry, layout, options, num_rows, stage) for stage in stages), key=lambda m: m.total)


def stage_memory(geometry: ModelGeometry, layout: Layout, options: MemoryOptions, num_rows: int, stage: int) -> Memory:
    """Memory of one GPU of a stage."""
    per = PRECISIONS[options.precision]
    parameters = rank_parameters(geometry, layout, stage)
    weights, gradients, optimizer = state_bytes(parameters, layout, per)
    tokens = options.seq_length / layout.cp
    layers_per_chunk = geometry.num_layers // (layout.pp * layout.vpp)
    chunks = chunks_in_flight(layout, num_rows, stage)
    kept = tokens * layers_per_chunk * chunks * saved_per_token(geometry, layout, options)
    working = tokens * _working_per_token(geometry, layout, options)
    logits = 0.0
    if stage == layout.pp - 1:
        rows = geometry.padded_vocab_size(layout.tp) / layout.tp
        logits = per.logit * rows * (min(LOSS_CHUNK, tokens) if options.chunked_loss else tokens)
        # The final norm's input and output, and the hidden states gathered for the output layer with their gradient.
        hidden = per.activation * geometry.hidden_size
        kept += tokens * 2 * hidden / _stream_ranks(layout, options)
        logits += tokens * 2 * hidden
    groups = sum(size > 1 for size in (layout.tp, layout.pp, layout.cp, layout.dp))
    passing = kept + max(logits, working)
    return Memory(
        stage=stage,
        weights=weights,
        gradients=gradients,
        optimizer=optimizer,
        activations=round(kept),
        logits=round(logits),
        working=round(working),
        allowance=round(CONTEXT_BYTES + groups * GROUP_BYTES + FRAGMENTATION * passing),
    )


def state_bytes(parameters: RankParameters, layout: Layout, per: PrecisionBytes) -> tuple[int, int, int]:
    """Bytes of weights, of gradients, and of this rank's share of the optimizer's states."""
    others = parameters.embeddings + parameters.vectors
    weights = parameters.matrices * per.matrix + others * per.other
    shard = -(-parameters.total // layout.num_optimizer_shards)
    return weights, parameters.total * per.gradient, shard * per.optimizer


def chunks_in_flight(layout: Layout, num_rows: int, stage: int) -> int:
    """Forward passes of a chunk of layers whose backward pass has not begun, at the highest point.

    Plain pipeline (1F1B): a stage runs one row for each stage behind it before its first backward pass, and one more.
    Interleaved: two for each stage behind it and pp for each further chunk of its own, and one more; on the first stage
    these are pp x vpp + pp - 1 chunks of L / (pp x vpp) layers.
    """
    behind = layout.pp - 1 - stage
    warm_up = behind if layout.vpp == 1 else 2 * behind + (layout.vpp - 1) * layout.pp
    return min(warm_up + 1, num_rows * layout.vpp)


def saved_per_token(geometry: ModelGeometry, layout: Layout, options: MemoryOptions) -> float:
    """Bytes that one layer keeps of each token of a rank's share of a row."""
    per, stream = PRECISIONS[options.precision], _stream_ranks(layout, options)
    layer_input = per.activation * geometry.hidden_size / stream
    if options.recompute == "full":
        return layer_input
    kept = layer_input + _attention_bytes(geometry, per, layout.tp, stream)
    # The residual after attention is the input of the feed-forward part, whether that is computed again or not.
    kept += per.activation * geometry.hidden_size / stream
    return kept if options.recompute == "selective" else kept + _mlp_bytes(geometry, per, layout.tp, stream)


def _attention_bytes(geometry: ModelGeometry, per: PrecisionBytes, tp: int, stream: int) -> float:
    """What attention keeps beside the layer's input.

    Stream: the norm's output and fp32 scale. Split: queries, keys and values as projected (q + 2 k), queries and keys
    as rotated (q + k), attention's result (q), its fp32 log-sum-exp per head, and the fp32 scale of each normalised
    query and key head. FP8 keeps a converted copy of attention's result for the output projection.
    """
    queries, keys = attention_width(geometry), key_value_width(geometry)
    split = per.activation * (3 * queries + 3 * keys) + 4 * geometry.num_attention_heads
    if geometry.qk_layernorm:
        split += 4 * (geometry.num_attention_heads + geometry.num_query_groups)
    if per.extra_copies:
        split += per.saved_input * queries
    return (per.saved_input * geometry.hidden_size + 4) / stream + split / tp


def _mlp_bytes(geometry: ModelGeometry, per: PrecisionBytes, tp: int, stream: int) -> float:
    """What the feed-forward part keeps beside its input: norm's output and scale, gate and up (2 f), product (f)."""
    split = (2 * per.activation + per.saved_input) * geometry.ffn_hidden_size
    return (per.saved_input * geometry.hidden_size + 4) / stream + split / tp


def _working_per_token(geometry: ModelGeometry, layout: Layout, options: MemoryOptions) -> float:
    """Bytes per token that exist while one layer's backward pass runs.

    Gradients of the wider of both parts (feed-forward: gate, up and their product; attention: fp32 query gradients,
    gradients of queries, keys and values before and after rotation), two tensors of the full hidden width gathered over
    tp, and what is computed again for this layer.
    """
    per, stream = PRECISIONS[options.precision], _stream_ranks(layout, options)
    queries, keys = attention_width(geometry), key_value_width(geometry)
    mlp = 3 * per.activation * geometry.ffn_hidden_size
    attention = 4 * queries + 2 * per.activation * (queries + 2 * keys)
    working = max(mlp, attention) / layout.tp + 2 * per.activation * geometry.hidden_size
    if options.recompute == "none":
        return working
    again = _mlp_bytes(geometry, per, layout.tp, stream)
    if options.recompute == "full":
        again += _attention_bytes(geometry, per, layout.tp, stream) + per.activation * geometry.hidden_size / stream
    return working + again


def _stream_ranks(layout: Layout, options: MemoryOptions) -> int:
    """Ranks that share what lies along the residual stream."""
    return layout.tp if options.sequence_parallel else 1
