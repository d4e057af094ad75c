"""Parameter counts: those of the published files, of transformers' models, and of Megatron-Core's ranks."""

import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest

from megatron_sft.model.geometry import ModelGeometry
from megatron_sft.model.parameter_counts import num_parameters
from megatron_sft.planning.known_models import geometry_of
from megatron_sft.planning.layouts import Layout
from megatron_sft.planning.memory import state_bytes
from megatron_sft.planning.parameters import rank_parameters
from megatron_sft.planning.precisions import PRECISIONS
from tests.planning.published import QWEN3, TINY

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.parametrize("name", QWEN3)
def test_totals_are_those_of_the_published_weights(name: str) -> None:
    config, total = QWEN3[name]
    assert num_parameters(ModelGeometry.from_hf_config(config)) == total
    assert geometry_of(name) == ModelGeometry.from_hf_config(config)


@pytest.mark.trainer
@pytest.mark.parametrize("config", [TINY, TINY | {"tie_word_embeddings": False}, *(c for c, _ in QWEN3.values())])
def test_totals_are_those_of_transformers(config: dict) -> None:
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    with torch.device("meta"):
        model = transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**config))
    # `parameters` yields a tied matrix once.
    assert num_parameters(ModelGeometry.from_hf_config(config)) == sum(p.numel() for p in model.parameters())


def test_ranks_of_an_untied_model_hold_every_parameter_once_beside_norms_and_padding() -> None:
    geometry = ModelGeometry.from_hf_config(TINY | {"tie_word_embeddings": False})
    layout = Layout(tp=2, pp=2)
    stages = [rank_parameters(geometry, layout, stage) for stage in (0, 1)]
    norms = 4 * (64 + 64 + 16 + 16) + 64
    assert sum(stage.vectors for stage in stages) == norms
    padding = 2 * (384 - 330) * 64
    assert 2 * sum(stage.total for stage in stages) == num_parameters(geometry) + norms + padding


def test_a_tied_matrix_is_copied_only_where_stages_differ() -> None:
    geometry = ModelGeometry.from_hf_config(TINY)
    assert rank_parameters(geometry, Layout(), 0).embeddings == 384 * 64
    stages = [rank_parameters(geometry, Layout(pp=4), stage).embeddings for stage in range(4)]
    assert stages == [384 * 64, 0, 0, 384 * 64]


@pytest.mark.trainer
@pytest.mark.slow
def test_weights_gradients_and_optimizer_states_are_those_of_megatron(tmp_path: Path) -> None:
    pytest.importorskip("megatron.core")
    sizes = [(1, 1), (2, 1), (1, 2), (2, 2)]
    configs = {True: tmp_path / "tied.json", False: tmp_path / "untied.json"}
    for tied, config in configs.items():
        config.write_text(json.dumps(TINY | {"tie_word_embeddings": tied}))
    command = [sys.executable, "-m", "tests.planning.megatron_bytes", json.dumps(sizes), *map(str, configs.values())]
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-3000:]
    records = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
    assert len(records) == 4 * len(sizes) * len(configs)
    for config, (tp, pp) in itertools.product(configs.values(), sizes):
        geometry, layout = ModelGeometry.from_hf_config(config), Layout(tp=tp, pp=pp, dp=4 // (tp * pp))
        for stage in range(pp):
            here = {"model": str(config), "tp": tp, "pp": pp, "stage": stage}
            compare([r for r in records if here.items() <= r.items()], geometry, layout, stage)


def compare(ranks: list[dict], geometry: ModelGeometry, layout: Layout, stage: int) -> None:
    """Each rank of a stage holds what is reckoned."""
    expected = rank_parameters(geometry, layout, stage)
    weights, gradients, optimizer = state_bytes(expected, layout, PRECISIONS["bf16"])
    assert [r["parameters"] for r in ranks] == [expected.total] * (4 // layout.pp)
    assert [r["weights"] for r in ranks] == [weights] * (4 // layout.pp)
    # Each parameter starts at a multiple of 64 entries in the buffer, and its end is padded for the ranks.
    slack = 4 * (64 * ranks[0]["num_tensors"] + 128 * layout.dp)
    assert all(0 <= r["gradients"] - gradients <= slack for r in ranks)
    # Main weights and moments of all data-parallel ranks together are there exactly once.
    assert sum(r["optimizer"] for r in ranks) == 12 * expected.total * layout.tp
    assert max(r["optimizer"] for r in ranks) <= optimizer + 3 * slack
