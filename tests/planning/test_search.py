"""The search sorts what fits from what does not."""

import pytest

from megatron_sft.model.flops import model_flops
from megatron_sft.model.geometry import ModelGeometry
from megatron_sft.planning.layouts import SplitRules
from megatron_sft.planning.memory import GIB, MemoryOptions
from megatron_sft.planning.search import Plan, Workload, search
from megatron_sft.planning.step_time import Cluster
from megatron_sft.planning.table import best_of_each, shortfall
from tests.planning.published import QWEN3

GEOMETRY = ModelGeometry.from_hf_config(QWEN3["qwen3-1.7b"][0])
BATCHES = [[4096] * 15, [8192] * 15]
CLUSTER = Cluster(
    num_gpus=8,
    gpus_per_node=8,
    peak_flops=989e12,
    efficiency=0.4,
    intra_node_bandwidth=350e9,
    inter_node_bandwidth=40e9,
)
RULES = SplitRules(gpus_per_node=8, seq_length=8192, global_batch_size=15, sequence_parallel=True)


def plan(memory_gib: float, **fixed: int) -> Plan:
    options = MemoryOptions(
        precision="bf16", recompute="none", seq_length=8192, chunked_loss=True, sequence_parallel=True
    )
    workload = Workload(geometry=GEOMETRY, batches=BATCHES, options=options, recomputes=("none", "full"))
    return search(workload, CLUSTER, RULES, memory_gib * GIB, fixed)


def test_memory_divides_what_fits_from_what_does_not() -> None:
    found = plan(16)
    assert min(len(found.fitting), len(found.too_large)) > 5
    assert all(estimate.memory.total <= 16 * GIB for estimate in found.fitting)
    assert all(estimate.memory.total > 16 * GIB for estimate in found.too_large)
    everything = plan(1000)
    assert everything.too_large == []
    assert len(everything.fitting) == len(found.fitting) + len(found.too_large)


def test_the_fastest_comes_first_and_averages_the_batches() -> None:
    best = plan(80).fitting[0]
    assert [e.seconds for e in plan(80).fitting] == sorted(e.seconds for e in plan(80).fitting)
    assert best.seconds == pytest.approx(sum(time.total for time in best.times) / 2)
    assert best.times[0].total < best.times[1].total
    flops = sum(model_flops(GEOMETRY, lengths) for lengths in BATCHES) / 2
    assert best.mfu == pytest.approx(flops / (best.seconds * 8 * 989e12))
    assert 0.2 < best.mfu < 0.4


def test_rows_are_those_of_the_larger_batch_and_full_groups_for_chunks() -> None:
    alone = [estimate for estimate in plan(1000).fitting if estimate.layout.dp == 1]
    assert {e.num_rows for e in alone if e.layout.vpp == 1} == {15}
    # Chunks take turns in groups of pp rows.
    assert {(e.layout.pp, e.num_rows) for e in alone if e.layout.vpp > 1} == {(2, 16), (4, 16)}


def test_refused_layouts_stand_under_their_reason() -> None:
    found = plan(80)
    assert [str(layout) for layout in found.refused["pp 8 does not divide 28 layers"]] == ["tp 1 pp 8 cp 1 dp 1"]


def test_given_sizes_leave_only_their_layouts() -> None:
    found = plan(1000, tp=2, cp=1)
    assert {(e.layout.tp, e.layout.cp) for e in found.fitting} == {(2, 1)}
    assert len(best_of_each(found.fitting)) == len({e.layout.pp for e in found.fitting}) == 3


def test_a_shortfall_says_how_much_and_of_what() -> None:
    largest = max(plan(10).too_large, key=lambda estimate: estimate.memory.total)
    text = shortfall(largest, 10 * GIB)
    assert text.startswith(f"{largest.layout}, recompute none: {largest.memory.total / GIB:.1f} GiB")
    assert f"is {largest.memory.total / GIB - 10:.1f} too much" in text
    assert "of it activations" in text
