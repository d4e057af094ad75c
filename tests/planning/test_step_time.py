"""Step times by hand, on a machine of round numbers."""

from dataclasses import replace

import pytest

from megatron_sft.model.geometry import ModelGeometry
from megatron_sft.planning.layouts import Layout
from megatron_sft.planning.load import RankLoad, RowLoad
from megatron_sft.planning.memory import MemoryOptions
from megatron_sft.planning.precisions import FP8_SPEEDUP
from megatron_sft.planning.step_time import LATENCY, Cluster, StepTime, step_time
from tests.planning.published import TINY

GEOMETRY = ModelGeometry.from_hf_config(TINY)
OPTIONS = MemoryOptions(precision="bf16", recompute="none", seq_length=32, chunked_loss=True, sequence_parallel=True)
CLUSTER = Cluster(
    num_gpus=16,
    gpus_per_node=8,
    peak_flops=1e9,
    efficiency=0.5,
    intra_node_bandwidth=350e6,
    inter_node_bandwidth=40e6,
)
LOAD = RankLoad(rows=(RowLoad(tokens=32, squares=500), RowLoad(tokens=32, squares=700)))
# Forward, both rows: 4 layers of the matrices of test_flops, causal attention, the output layer.
MLP = 4 * 64 * 6 * 64 * 96
MATRICES = 4 * 64 * 2 * (64 * 64 + 2 * 64 * 32 + 64 * 64 + 3 * 64 * 96)
ATTENTION = 4 * 1200 * 2 * 64
OUTPUT = 64 * 2 * 64 * 330


def reckon(layout: Layout, cluster: Cluster = CLUSTER, load: RankLoad = LOAD, **changes: str) -> StepTime:
    return step_time(GEOMETRY, layout, replace(OPTIONS, **changes), cluster, load)


def test_compute_of_one_gpu() -> None:
    time = reckon(Layout())
    assert time.compute == pytest.approx((3 * MATRICES + 3 * OUTPUT + 3.5 * ATTENTION) / 0.5e9)
    assert time.total == time.compute


def test_recomputation_adds_what_it_computes_again() -> None:
    none, selective, full = (reckon(Layout(), recompute=how).compute for how in ("none", "selective", "full"))
    assert selective - none == pytest.approx(MLP / 0.5e9)
    assert full - none == pytest.approx((MATRICES + ATTENTION) / 0.5e9)


def test_fp8_speeds_up_the_layers_products_alone() -> None:
    saved = reckon(Layout()).compute - reckon(Layout(), precision="fp8").compute
    assert saved == pytest.approx(3 * MATRICES * (1 - 1 / FP8_SPEEDUP) / 0.5e9)


def test_tensor_and_context_parallelism_divide_the_work() -> None:
    alone = reckon(Layout()).compute
    assert reckon(Layout(tp=2)).compute == reckon(Layout(cp=2)).compute == pytest.approx(alone / 2)


def test_the_pipeline_waits_for_its_last_stage_and_for_itself() -> None:
    plain, chunked = reckon(Layout(pp=2)), reckon(Layout(pp=2, vpp=2))
    assert plain.compute == pytest.approx((1.5 * MATRICES + 3 * OUTPUT + 1.75 * ATTENTION) / 0.5e9)
    # Two rows, two stages: one row's time is waited for.
    assert plain.bubble == pytest.approx(plain.compute / 2) == pytest.approx(2 * chunked.bubble)
    # Each row's 32 x 64 activations in bf16 go one way, as much back, within the node; each chunk does so.
    assert plain.pipeline == pytest.approx(2 * 2 * 32 * 64 * 2 / 350e6) == pytest.approx(chunked.pipeline / 2)
    across = reckon(Layout(pp=2, dp=8))
    assert across.pipeline == pytest.approx(2 * 2 * 32 * 64 * 2 / 40e6)


@pytest.mark.parametrize(("recompute", "collectives"), [("none", 8), ("selective", 10), ("full", 12)])
def test_collectives_of_tensor_parallelism(recompute: str, collectives: int) -> None:
    # Rows x layers x collectives, each moving half of 32 x 64 activations in bf16.
    expected = 2 * 4 * collectives * (LATENCY + 32 * 64 * 2 / 2 / 350e6)
    assert reckon(Layout(tp=2), recompute=recompute).tensor == pytest.approx(expected)


def test_attention_hides_what_context_parallelism_passes_around() -> None:
    hidden = reckon(Layout(cp=2)).context
    # Rows x layers x one pass forward and two backward, one step each.
    assert hidden == pytest.approx(2 * 4 * 3 * LATENCY)
    slow = replace(CLUSTER, intra_node_bandwidth=1e5)
    # Keys and values: 2 x 32 wide, 32 tokens, bf16; half of them move.
    moved = 2 * 4 * 3 * (32 * 2 * 32 * 2 / 2 / 1e5)
    attention = 3.5 * ATTENTION / 2 / 0.5e9
    assert reckon(Layout(cp=2), slow).context == pytest.approx(hidden + moved - attention)


def test_gradients_and_weights_move_behind_one_row() -> None:
    assert reckon(Layout(dp=2)).data == 0
    slow = replace(CLUSTER, intra_node_bandwidth=1e5)
    parameters = 384 * 64 + 4 * (2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 96 + 2 * 64 + 2 * 16) + 64
    forward = (MATRICES + ATTENTION + OUTPUT) / 0.5e9 / 2
    backward = (2 * MATRICES + 2.5 * ATTENTION + 2 * OUTPUT) / 0.5e9 / 2
    expected = (parameters * 4 / 2 / 1e5 - backward) + (parameters * 2 / 2 / 1e5 - forward)
    assert reckon(Layout(dp=2), slow).data == pytest.approx(expected)


def test_a_group_that_spans_nodes_uses_the_adapters_of_its_members() -> None:
    assert CLUSTER.bandwidth(8, 1) == CLUSTER.bandwidth(4, 2) == 350e6
    assert CLUSTER.bandwidth(16, 1) == 8 * 40e6
    assert CLUSTER.bandwidth(4, 4) == 2 * 40e6
    assert CLUSTER.bandwidth(2, 8) == CLUSTER.bandwidth(2, 64) == 40e6
