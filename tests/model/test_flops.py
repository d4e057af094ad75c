"""Operations of an iteration: against torch's own counter and against Megatron's formula."""

from types import SimpleNamespace

import pytest

from megatron_sft.model.flops import model_flops
from megatron_sft.model.geometry import ModelGeometry
from tests.planning.published import QWEN3, TINY


def test_one_document_by_hand() -> None:
    # h 64, q 64, k 32, f 96, V 330, 4 layers, 10 tokens.
    matrices = 2 * (64 * 64 + 2 * 64 * 32 + 64 * 64 + 3 * 64 * 96)
    attention = 2 * 64 * 10**2
    expected = 3 * (4 * (10 * matrices + attention) + 10 * 2 * 64 * 330)
    assert model_flops(ModelGeometry.from_hf_config(TINY), [10]) == expected


def test_attention_is_counted_per_document() -> None:
    geometry = ModelGeometry.from_hf_config(TINY)
    together, apart = model_flops(geometry, [20]), model_flops(geometry, [12, 8])
    assert together - apart == 3 * 4 * 2 * 64 * (20**2 - 12**2 - 8**2)


@pytest.mark.trainer
def test_as_torch_counts_a_forward_and_a_backward_pass() -> None:
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    from torch.utils.flop_counter import FlopCounterMode

    geometry = ModelGeometry.from_hf_config(TINY)
    model = transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**TINY, attn_implementation="eager"))
    for length in (7, 12):
        with FlopCounterMode(display=False) as counter:
            model(input_ids=torch.zeros(1, length, dtype=torch.int64)).logits.sum().backward()
        # Plain attention computes the half above the diagonal too; we count what has to be computed.
        upper_half = 3 * 4 * 2 * 64 * length**2
        # Some versions multiply the head_dim / 2 frequencies of the rotary embedding with the positions as matrices.
        angles = 2 * (16 // 2) * length
        assert counter.get_total_flops() - model_flops(geometry, [length]) - upper_half in (0, angles)


@pytest.mark.trainer
@pytest.mark.parametrize("name", [*QWEN3, "tiny"])
def test_as_megatron_counts(name: str) -> None:
    try:
        from megatron.training.training import num_floating_point_operations
    except ImportError as error:
        pytest.skip(f"no megatron.training in this megatron-core: {error}")
    geometry = ModelGeometry.from_hf_config(QWEN3[name][0] if name in QWEN3 else TINY)
    lengths = [8600, 20480, 1, 3333]
    theirs = num_floating_point_operations(
        megatron_args(geometry),
        batch_size=None,
        seqlen_squared_sum_in_batch=sum(n * n for n in lengths),
        total_real_tokens_in_batch=sum(lengths),
    )
    # Intended difference: padded rows of the vocabulary are no work that the model asks for. Qwen3 has none.
    num_padded = geometry.padded_vocab_size(1) - geometry.vocab_size
    assert num_padded == (0 if name in QWEN3 else 54)
    assert theirs == model_flops(geometry, lengths) + 6 * geometry.hidden_size * num_padded * sum(lengths)


def megatron_args(geometry: ModelGeometry) -> SimpleNamespace:
    """The arguments that Megatron's formula reads for a dense model."""
    return SimpleNamespace(
        num_layers=geometry.num_layers,
        hidden_size=geometry.hidden_size,
        ffn_hidden_size=geometry.ffn_hidden_size,
        num_attention_heads=geometry.num_attention_heads,
        num_query_groups=geometry.num_query_groups,
        kv_channels=geometry.kv_channels,
        padded_vocab_size=geometry.padded_vocab_size(1),
        group_query_attention=True,
        swiglu=True,
        num_experts=None,
        mtp_num_layers=None,
        moe_ffn_hidden_size=None,
        moe_latent_size=None,
        moe_shared_expert_intermediate_size=None,
        multi_latent_attention=False,
        attention_output_gate=False,
        experimental_attention_variant=None,
        hybrid_layer_pattern=None,
    )
