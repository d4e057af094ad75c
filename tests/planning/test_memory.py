"""Memory by component: by hand, against what autograd keeps, and against Megatron's own accounting."""

import itertools
from dataclasses import replace
from typing import Any

import pytest

from megatron_sft.model.geometry import ModelGeometry
from megatron_sft.planning.layouts import Layout
from megatron_sft.planning.memory import (
    CONTEXT_BYTES,
    FRAGMENTATION,
    GROUP_BYTES,
    LOSS_CHUNK,
    MemoryOptions,
    chunks_in_flight,
    peak_memory,
    saved_per_token,
    stage_memory,
)
from tests.model.test_flops import megatron_args
from tests.planning.published import QWEN3, TINY

QWEN3_8B = ModelGeometry.from_hf_config(QWEN3["qwen3-8b"][0])
OPTIONS = MemoryOptions(precision="bf16", recompute="none", seq_length=20480, chunked_loss=True, sequence_parallel=True)


def saved(layout: Layout = Layout(), geometry: ModelGeometry = QWEN3_8B, **changes: Any) -> float:  # noqa: B008
    return saved_per_token(geometry, layout, replace(OPTIONS, **changes))


# ---- weights, gradients, optimizer ----


@pytest.mark.parametrize(
    ("precision", "bytes_per_parameter"),
    [("fp32", 16), ("bf16", 18), ("precision-aware", 10), ("pure-bf16", 8), ("fp8", 18)],
)
def test_bytes_per_parameter_on_one_gpu(precision: Any, bytes_per_parameter: int) -> None:
    memory = peak_memory(QWEN3_8B, Layout(), replace(OPTIONS, precision=precision), 1)
    assert memory.weights + memory.gradients + memory.optimizer == bytes_per_parameter * 8_190_735_360


def test_optimizer_states_are_spread_over_data_and_context_ranks() -> None:
    alone, spread = (peak_memory(QWEN3_8B, layout, OPTIONS, 1) for layout in (Layout(), Layout(dp=4, cp=2)))
    assert alone.optimizer == 8 * spread.optimizer == 12 * 8_190_735_360
    assert (alone.weights, alone.gradients) == (spread.weights, spread.gradients)


@pytest.mark.trainer
@pytest.mark.parametrize(("tp", "pp"), [(1, 1), (2, 1), (8, 1), (2, 4), (4, 2)])
def test_states_are_those_of_megatrons_accounting(tp: int, pp: int) -> None:
    usage = theoretical_memory_usage()
    dp, per_parameter = 4, 6 + 12 / 4
    args = megatron_args(QWEN3_8B)
    vars(args).update(
        normalization="RMSNorm", untie_embeddings_and_output_weights=True, use_distributed_optimizer=True,
        pipeline_model_parallel_size=pp, tensor_model_parallel_size=tp, expert_tensor_parallel_size=1,
        expert_model_parallel_size=1, data_parallel_size=dp, world_size=tp * pp * dp,
    )  # fmt: skip
    theirs = usage.compute_weight_and_optimizer_memory(args)
    ours = stage_memory(QWEN3_8B, Layout(tp=tp, pp=pp, dp=dp), OPTIONS, 8, pp - 1)
    # Intended differences: the norms of queries and keys, and the final norm, which lies on the last stage as a whole.
    norms = 36 // pp * 2 * 128 + 4096 * (1 - 1 / pp)
    found = ours.weights + ours.gradients + ours.optimizer
    assert found == pytest.approx(theirs + norms * per_parameter, abs=12)


# ---- activations ----


def test_a_layer_of_qwen3_8b_by_hand() -> None:
    # Input and residual in bf16, two norm outputs in bf16 with an fp32 scale.
    stream = 2 * 2 * 4096 + 2 * (2 * 4096 + 4)
    # 32 + 8 + 8 heads of 128 as projected, 32 + 8 as rotated, 32 as result; fp32: 32 log-sum-exps, 40 norm scales.
    attention = 2 * 128 * (48 + 40 + 32) + 4 * 32 + 4 * 40
    gate_up_product = 2 * 3 * 12288
    assert saved() == stream + attention + gate_up_product == 137_512
    assert saved(recompute="selective") == stream - (2 * 4096 + 4) + attention
    assert saved(recompute="full") == 2 * 4096


def test_sequence_parallelism_splits_the_stream() -> None:
    split = Layout(tp=4)
    stream = 8 * 4096 + 8
    assert saved(split) == 137_512 / 4
    assert saved(split, sequence_parallel=False) == stream + (137_512 - stream) / 4
    assert saved(split, sequence_parallel=False, recompute="full") == 2 * 4096


def test_fp8_keeps_inputs_of_products_in_one_byte() -> None:
    # Two norm outputs and the feed-forward product are halved; attention's result has a second, converted copy.
    assert saved() - saved(precision="fp8") == 2 * 4096 + 12288 - 4096
    assert saved(precision="fp32") > 1.9 * saved()


@pytest.mark.trainer
def test_autograd_keeps_what_is_reckoned() -> None:
    pytest.importorskip("torch")
    from tests.planning.one_layer import bytes_kept

    geometry = ModelGeometry.from_hf_config(TINY)
    for tokens in (1, 24):
        assert bytes_kept(geometry, tokens) == tokens * saved(geometry=geometry)


@pytest.mark.trainer
@pytest.mark.parametrize("tp", [1, 4])
def test_activations_differ_from_megatrons_accounting_as_intended(tp: int) -> None:
    usage = theoretical_memory_usage()
    # As many key-value heads as query heads: the case that Megatron's formula is for.
    geometry = replace(QWEN3_8B, num_query_groups=32, qk_layernorm=False)
    h, f, vocab, tokens, layers = 4096, 12288, 151936, 2048, 36
    args = megatron_args(geometry)
    vars(args).update(
        seq_length=tokens, micro_batch_size=1, pipeline_model_parallel_size=1, tensor_model_parallel_size=tp,
        virtual_pipeline_model_parallel_size=None,
    )  # fmt: skip
    theirs = usage.compute_activation_memory(args, num_microbatches=1)
    options = replace(OPTIONS, seq_length=tokens, chunked_loss=False)
    ours = peak_memory(geometry, Layout(tp=tp), options, 1)
    per_layer = (
        2 * 2 * h  # rotated queries and keys beside the projected ones, which the norms or values keep alive
        + 2 * f  # gate and up are two tensors, Megatron's formula has one
        - 2 * h  # dropout masks, which we do not have
        + 4 * 32  # log-sum-exps
        + 2 * 4  # scales of the norms
    )
    at_the_ends = (
        4 * vocab  # 8 bytes a logit: in bf16, its softmax in fp32, its gradient in bf16; Megatron has 4
        + 4 * h - 4 * h  # input and output of the final norm in bf16; Megatron has one in fp32
        - 8 - h  # token ids and the embedding's dropout mask
    )  # fmt: skip
    gathered = 4 * h  # hidden states and their gradient, gathered over tp for the output layer
    difference = tokens * ((layers * per_layer + at_the_ends) / tp + gathered)
    assert ours.logits > ours.working
    assert ours.activations + ours.logits == pytest.approx(theirs + difference, abs=2)


def theoretical_memory_usage() -> Any:
    try:
        from megatron.training import theoretical_memory_usage
    except ImportError as error:
        pytest.skip(f"no megatron.training in this megatron-core: {error}")
    return theoretical_memory_usage


# ---- the pipeline ----


def test_rows_in_flight_by_hand() -> None:
    assert [chunks_in_flight(Layout(pp=4), 8, stage) for stage in range(4)] == [4, 3, 2, 1]
    assert [chunks_in_flight(Layout(pp=4), 2, stage) for stage in range(4)] == [2, 2, 2, 1]
    assert [chunks_in_flight(Layout(pp=4, vpp=3), 8, stage) for stage in range(4)] == [15, 13, 11, 9]
    assert chunks_in_flight(Layout(dp=4), 8, 0) == 1


@pytest.mark.trainer
def test_rows_in_flight_are_those_of_megatrons_schedules(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("megatron.core")
    import megatron_sft.model.lean_megatron  # noqa: F401

    from megatron.core import parallel_state
    from megatron.core.pipeline_parallel.schedules import get_pp_rank_microbatches

    for pp, vpp, num_rows, stage in itertools.product((2, 4), (1, 2, 5), (4, 12), (0, 1)):
        monkeypatch.setattr(parallel_state, "_MPU_PIPELINE_MODEL_PARALLEL_WORLD_SIZE", pp)
        monkeypatch.setattr(parallel_state, "_MPU_PIPELINE_MODEL_PARALLEL_RANK", stage)
        chunks = None if vpp == 1 else vpp
        monkeypatch.setattr(parallel_state, "_VIRTUAL_PIPELINE_MODEL_PARALLEL_WORLD_SIZE", chunks)
        total, _, warm_up, _ = get_pp_rank_microbatches(num_rows, vpp, pp)
        layout = Layout(pp=pp, vpp=vpp)
        # After the warm-up each step runs one forward pass before a backward pass.
        assert chunks_in_flight(layout, num_rows, stage) == min(warm_up + 1, total), (layout, num_rows, stage)


def test_activations_follow_layers_rows_and_ranks() -> None:
    layer = 20480 * 137_512
    stages = [stage_memory(QWEN3_8B, Layout(pp=4), OPTIONS, 8, stage).activations for stage in range(4)]
    final_norm = 20480 * 2 * 2 * 4096
    assert stages == [9 * 4 * layer, 9 * 3 * layer, 9 * 2 * layer, 9 * layer + final_norm]
    interleaved = stage_memory(QWEN3_8B, Layout(pp=4, vpp=3), OPTIONS, 8, 0)
    assert interleaved.activations == 3 * 15 * layer
    assert stage_memory(QWEN3_8B, Layout(pp=4, cp=2), OPTIONS, 8, 0).activations * 2 == stages[0]


# ---- the highest point ----


def test_logits_of_a_row_or_of_a_chunk() -> None:
    hidden = 20480 * 2 * 2 * 4096
    chunked, full = (peak_memory(QWEN3_8B, Layout(), replace(OPTIONS, chunked_loss=c), 1) for c in (True, False))
    assert full.logits == 20480 * 151936 * 8 + hidden
    assert chunked.logits == LOSS_CHUNK * 151936 * 8 + hidden
    assert stage_memory(QWEN3_8B, Layout(pp=4), OPTIONS, 8, 0).logits == 0


def test_the_total_has_logits_or_working_set_and_the_allowance() -> None:
    memory = peak_memory(QWEN3_8B, Layout(tp=2, dp=2), OPTIONS, 1)
    # Gradients of gate, up and product, split; two gathered tensors of the hidden width.
    assert memory.working == 20480 * (6 * 12288 // 2 + 2 * 2 * 4096)
    passing = memory.activations + max(memory.logits, memory.working)
    assert memory.allowance == round(CONTEXT_BYTES + 2 * GROUP_BYTES + FRAGMENTATION * passing)
    assert memory.total == memory.weights + memory.gradients + memory.optimizer + passing + memory.allowance


def test_recomputation_brings_a_layer_back_for_its_backward_pass() -> None:
    none, selective, full = (
        peak_memory(QWEN3_8B, Layout(), replace(OPTIONS, recompute=how), 1) for how in ("none", "selective", "full")
    )
    assert selective.working - none.working == 20480 * (137_512 - saved(recompute="selective"))
    assert full.working - none.working == 20480 * (137_512 - 2 * 4096)
    assert none.total > selective.total > full.total


def test_the_fullest_stage_counts() -> None:
    first = peak_memory(QWEN3_8B, Layout(pp=4), OPTIONS, 8)
    last = peak_memory(QWEN3_8B, Layout(pp=4), replace(OPTIONS, recompute="full", chunked_loss=False), 8)
    assert (first.stage, last.stage) == (0, 3)
