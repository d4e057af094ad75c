"""Which layouts there are, and why some cannot run."""

from dataclasses import replace

import pytest

from megatron_sft.model.geometry import ModelGeometry
from megatron_sft.planning.layouts import Layout, SplitRules, candidates, divisors, refusal
from tests.planning.published import QWEN3, TINY

QWEN3_8B = ModelGeometry.from_hf_config(QWEN3["qwen3-8b"][0])
RULES = SplitRules(gpus_per_node=8, seq_length=20480, global_batch_size=256, sequence_parallel=True)


def test_candidates_of_two_gpus() -> None:
    geometry = ModelGeometry.from_hf_config(TINY)
    assert sorted(candidates(geometry, 2)) == [
        Layout(dp=2),
        Layout(pp=2),
        Layout(pp=2, vpp=2),
        Layout(cp=2),
        Layout(tp=2),
    ]


def test_every_candidate_takes_all_gpus_and_none_comes_twice() -> None:
    found = list(candidates(QWEN3_8B, 24))
    assert len(found) == len(set(found)) > 50
    assert {layout.num_gpus for layout in found} == {24}
    assert {layout.vpp for layout in found if layout.pp == 12} == {1, 3}


@pytest.mark.parametrize(
    ("layout", "reason"),
    [
        (Layout(tp=16), "tp 16 does not divide 8 query groups (key-value heads)"),
        (Layout(tp=3), "tp 3 does not divide 32 attention heads"),
        (Layout(pp=8), "pp 8 does not divide 36 layers"),
        (Layout(pp=4, vpp=2), "pp x virtual stages 8 does not divide 36 layers"),
        (Layout(cp=3), "cp 3 with tp 1 needs rows of a multiple of 6 tokens, not 20480"),
        (Layout(cp=2048, tp=4), "cp 2048 with tp 4 needs rows of a multiple of 8192 tokens, not 20480"),
        (Layout(dp=512), "dp 512 exceeds the 256 samples of an iteration"),
    ],
)
def test_refusals_name_the_size_and_what_it_meets(layout: Layout, reason: str) -> None:
    assert refusal(layout, QWEN3_8B, RULES) == reason


def test_what_can_run_is_not_refused() -> None:
    for layout in (Layout(), Layout(tp=8, cp=4, pp=4, vpp=9, dp=256), Layout(cp=2048)):
        assert refusal(layout, QWEN3_8B, RULES) is None


def test_tensor_parallelism_stays_in_a_node() -> None:
    rules = replace(RULES, gpus_per_node=4)
    assert refusal(Layout(tp=8), QWEN3_8B, rules) == "tp 8 crosses nodes of 4 GPUs"
    assert refusal(Layout(tp=4), QWEN3_8B, replace(RULES, gpus_per_node=6)) == "tp 4 crosses nodes of 6 GPUs"


def test_divisors() -> None:
    assert divisors(12) == [1, 2, 3, 4, 6, 12]
    assert divisors(1) == [1]
