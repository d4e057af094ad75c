"""How long an iteration takes: operations at a given efficiency, the pipeline's bubble, simple terms for communication.

Legend: T tokens of a row, S = T / cp, h hidden size, k width of all keys. Times are in seconds, of the costliest
data-parallel rank's rows; the other ranks wait for it. Not reckoned: loading, the optimizer's update (a pass over its
states, hundredths of a second), saving, launch gaps of small layers.
"""

from dataclasses import dataclass

from megatron_sft.model.flops import attention_per_square, layer_per_token, mlp_per_token, output_per_token
from megatron_sft.model.geometry import ModelGeometry
from megatron_sft.model.parameter_counts import key_value_width
from megatron_sft.planning.layouts import Layout
from megatron_sft.planning.load import RankLoad, RowLoad
from megatron_sft.planning.memory import MemoryOptions
from megatron_sft.planning.parameters import rank_parameters
from megatron_sft.planning.precisions import PRECISIONS

ATTENTION_BACKWARD = 2.5
"""Fused attention makes its scores again in the backward pass: five products instead of two."""
LATENCY = 30e-6
"""Seconds that each collective and each step of a ring costs whatever its size; nothing hides them."""


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """The machines."""

    num_gpus: int
    """In all."""
    gpus_per_node: int
    """GPUs that NVLink joins."""
    peak_flops: float
    """Dense bf16 operations per second of one GPU, as its maker states them."""
    efficiency: float
    """Share of the peak that a GPU reaches while it computes, recomputation included."""
    intra_node_bandwidth: float
    """Bytes per second that a GPU sends inside its node, as collectives reach it."""
    inter_node_bandwidth: float
    """Bytes per second that a GPU sends to other nodes."""

    def bandwidth(self, group_size: int, stride: int) -> float:
        """Bytes per second of a ring over `group_size` ranks that lie `stride` ranks apart.

        Where the group spans nodes, its members of one node drive a network adapter each.
        """
        if group_size * stride <= self.gpus_per_node:
            return self.intra_node_bandwidth
        members_per_node = max(1, self.gpus_per_node // stride)
        return min(self.intra_node_bandwidth, members_per_node * self.inter_node_bandwidth)


@dataclass(frozen=True, kw_only=True)
class StepTime:
    """Seconds of an iteration, by cause."""

    compute: float
    """Forward, backward and recomputation of all rows on the stage with the most work."""
    bubble: float
    """Waiting at the pipeline's start and end."""
    tensor: float
    """Collectives of tensor parallelism, which nothing hides."""
    context: float
    """Keys and values passed around, as far as attention does not hide it."""
    pipeline: float
    """Activations and gradients handed to the next stage."""
    data: float
    """Gradients reduced and weights gathered, as far as one row's backward and forward pass do not hide it."""

    @property
    def total(self) -> float:
        """The whole iteration."""
        return self.compute + self.bubble + self.tensor + self.context + self.pipeline + self.data


def step_time(
    geometry: ModelGeometry, layout: Layout, options: MemoryOptions, cluster: Cluster, load: RankLoad
) -> StepTime:
    """Reckon one iteration in which the costliest rank has these rows."""
    speed = cluster.peak_flops * cluster.efficiency
    work = [_row_work(geometry, layout, options, row) for row in load.rows]
    forward, backward, attention = (sum(part) / speed for part in zip(*work, strict=True))
    compute, num_rows = forward + backward, len(load.rows)
    tensor = num_rows * _tensor_seconds(geometry, layout, options, cluster)
    passing, latency = _context_seconds(geometry, layout, options, cluster)
    context = max(0.0, num_rows * passing - attention) + num_rows * latency
    # Each chunk of layers that a row passes through hands on its result, and gets back its gradient.
    hand_on = num_rows * _hand_on_seconds(geometry, layout, options, cluster)
    bubble = (layout.pp - 1) / layout.vpp * (compute + tensor + context) / num_rows
    data = _data_seconds(geometry, layout, options, cluster, forward / num_rows, backward / num_rows)
    return StepTime(compute=compute, bubble=bubble, tensor=tensor, context=context, pipeline=hand_on, data=data)


def _row_work(
    geometry: ModelGeometry, layout: Layout, options: MemoryOptions, row: RowLoad
) -> tuple[float, float, float]:
    """Operations of a row on one GPU of the last stage, which has the output layer on top of its share of the layers.

    Returns:
        Forward; backward with recomputation; the part of both that is attention. In operations that take as long as
        so many in bf16.
    """
    layers, ranks = geometry.num_layers / layout.pp, layout.tp * layout.cp
    speedup = PRECISIONS[options.precision].matrix_speedup
    matrices = layers * row.tokens * layer_per_token(geometry) / speedup
    attention = layers * row.squares * attention_per_square(geometry)
    output = row.tokens * output_per_token(geometry)
    again, attention_again = 0.0, 0.0
    if options.recompute == "full":
        again, attention_again = matrices, attention
    elif options.recompute == "selective":
        again = layers * row.tokens * mlp_per_token(geometry) / speedup
    forward = matrices + attention + output
    attention_backward = ATTENTION_BACKWARD * attention + attention_again
    backward = 2 * (matrices + output) + again + attention_backward
    return forward / ranks, backward / ranks, (attention + attention_backward) / ranks


def _tensor_seconds(geometry: ModelGeometry, layout: Layout, options: MemoryOptions, cluster: Cluster) -> float:
    """Exposed collectives of one row on one stage: 4 forward and 4 backward a layer, and those of recomputation.

    With sequence parallelism these are all-gathers and reduce-scatters of S h activations; without it half as many
    all-reduces of twice the volume. Gathering inputs again for weight gradients runs beside matrix products.
    """
    if layout.tp == 1:
        return 0.0
    per_layer = 8 + {"none": 0, "selective": 2, "full": 4}[options.recompute]
    layers = geometry.num_layers / layout.pp
    size = options.seq_length / layout.cp * geometry.hidden_size * PRECISIONS[options.precision].activation
    return layers * per_layer * (LATENCY + _ring(size, layout.tp, cluster.bandwidth(layout.tp, 1)))


def _context_seconds(
    geometry: ModelGeometry, layout: Layout, options: MemoryOptions, cluster: Cluster
) -> tuple[float, float]:
    """Passing keys and values around for one row on one stage: once forward, twice backward (with their gradients).

    Returns:
        What attention may hide, and the latency of the steps, which it does not.
    """
    if layout.cp == 1:
        return 0.0, 0.0
    rounds = geometry.num_layers / layout.pp * (4 if options.recompute == "full" else 3)
    # All cp shares together, which every rank but one sends on.
    size = options.seq_length * 2 * key_value_width(geometry) / layout.tp * PRECISIONS[options.precision].activation
    passing = _ring(size, layout.cp, cluster.bandwidth(layout.cp, layout.tp))
    return rounds * passing, rounds * (layout.cp - 1) * LATENCY


def _hand_on_seconds(geometry: ModelGeometry, layout: Layout, options: MemoryOptions, cluster: Cluster) -> float:
    """Sending one row's activations to the next stage and gradients to the one before, for every chunk."""
    if layout.pp == 1:
        return 0.0
    shares = layout.cp * (layout.tp if options.sequence_parallel else 1)
    size = options.seq_length * geometry.hidden_size * PRECISIONS[options.precision].activation / shares
    stride = layout.tp * layout.cp * layout.dp
    # A single neighbour: one adapter, however many ranks of a node take part.
    inside = layout.pp * stride <= cluster.gpus_per_node
    bandwidth = cluster.intra_node_bandwidth if inside else cluster.inter_node_bandwidth
    return 2 * layout.vpp * size / bandwidth


def _data_seconds(
    geometry: ModelGeometry, layout: Layout, options: MemoryOptions, cluster: Cluster, forward: float, backward: float
) -> float:
    """Reducing gradients behind the last row's backward pass, gathering weights before the first row's forward pass."""
    size = layout.num_optimizer_shards
    if size == 1:
        return 0.0
    per = PRECISIONS[options.precision]
    count = max(rank_parameters(geometry, layout, stage).total for stage in (0, layout.pp - 1))
    bandwidth = cluster.bandwidth(size, layout.tp)
    reduce, gather = (_ring(count * width, size, bandwidth) for width in (per.gradient, per.other))
    return max(0.0, reduce - backward) + max(0.0, gather - forward)


def _ring(size: float, ranks: int, bandwidth: float) -> float:
    """Seconds of an all-gather or reduce-scatter of `size` bytes: each rank sends all shares but one."""
    return size * (ranks - 1) / ranks / bandwidth
