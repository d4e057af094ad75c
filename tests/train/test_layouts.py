"""The same samples give the same losses in every layout."""

import shutil
from itertools import pairwise

import pytest

pytest.importorskip("megatron.core")

from megatron_sft.model import checkpoint_dir
from tests.train.layout_runs import run_all

pytestmark = [pytest.mark.trainer, pytest.mark.slow]

ITERATIONS = 5
SCHEDULE = {"train_iters": ITERATIONS, "lr": 1e-3, "save_iters": "2"}
TP2 = {"tensor_model_parallel_size": 2}
PP2 = {"pipeline_model_parallel_size": 2}
CP2 = {"context_parallel_size": 2}
SP = {"sequence_parallel": True}
INTERLEAVED = {"num_virtual_stages_per_pipeline_rank": 2}
OVERLAPPING = {"overlap_grad_reduce": True, "overlap_param_gather": True}
# Layouts of 4 ranks; what is left of the ranks is data parallel.
LAYOUTS = {
    "dp4": {},
    "dp2 tp2": TP2,
    "dp2 tp2 sp": TP2 | SP,
    "tp2 sp pp2": TP2 | SP | PP2,
    "dp2 pp2": PP2,
    "dp2 pp2 interleaved": PP2 | INTERLEAVED,
    "pp4": {"pipeline_model_parallel_size": 4},
    "tp2 sp pp2 interleaved": TP2 | SP | PP2 | INTERLEAVED,
    "dp2 cp2": CP2,
    "cp4": {"context_parallel_size": 4},
    "cp2 tp2": CP2 | TP2,
    "cp2 tp2 sp": CP2 | TP2 | SP,
    "cp2 pp2": CP2 | PP2,
    "cp2 pp2 interleaved": CP2 | PP2 | INTERLEAVED,
    "dp2 tp2 sp, layers recomputed": TP2 | SP | {"recompute_granularity": "full", "recompute_num_layers": 2},
    "dp2 cp2, attention recomputed": CP2 | {"recompute_granularity": "selective"},
    "dp2 tp2 sp, feed-forward recomputed": TP2
    | SP
    | {"recompute_granularity": "selective", "recompute_modules": "mlp"},
    "dp4, overlapping": OVERLAPPING,
    "dp2 pp2 interleaved, overlapping": PP2 | INTERLEAVED | OVERLAPPING,
    "dp2 tp2 sp, constant rows": TP2 | SP | {"constant_row_length": True},
    "dp4, loss in pieces": {"loss_piece_tokens": 50},
    "tp2 sp cp2, loss in pieces": TP2 | SP | CP2 | {"loss_piece_tokens": 21},
    "tp2 sp pp2 interleaved, loss in pieces": TP2 | SP | PP2 | INTERLEAVED | {"loss_piece_tokens": 64},
    "dp2 cp2, other rows": CP2 | {"seq_length": 512},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("layouts")


@pytest.fixture(scope="module")
def one_rank(world, folder):
    return run_all(world, folder, {"one rank": SCHEDULE}, 1)["one rank"]


@pytest.fixture(scope="module")
def four_ranks(world, folder):
    return run_all(world, folder, {name: SCHEDULE | changes for name, changes in LAYOUTS.items()}, 4)


def test_every_layout_gives_the_losses_and_gradient_norms_of_one_rank(one_rank, four_ranks):
    assert len(one_rank) == ITERATIONS
    assert abs(one_rank[1]["loss"] - one_rank[0]["loss"]) > 1e-2, "the first update should change the loss"
    assert len({run[0]["num_rows"] for run in four_ranks.values()}) > 1, "the packing should differ somewhere"
    for name, run in four_ranks.items():
        for expected, record in zip(one_rank, run, strict=True):
            where = (name, record["iteration"])
            assert record["loss"] == pytest.approx(expected["loss"], rel=1e-5), where
            assert record["grad_norm"] == pytest.approx(expected["grad_norm"], rel=1e-5), where
            assert record["trained_tokens"] == expected["trained_tokens"], where


def test_every_layout_goes_on_from_another_ones_checkpoint(world, folder, one_rank, four_ranks):
    """Each of these starts from iteration 2 of the one before it, the first one from one rank's."""
    names = ["one rank", "tp2 sp pp2 interleaved", "cp2 tp2", "dp2 pp2", "dp4"]
    changes = {}
    for before, name in pairwise(names):
        save = folder / f"{name} resumed"
        state = checkpoint_dir.iteration_dir(folder / before.replace(" ", "_"), 2)
        shutil.copytree(state, checkpoint_dir.iteration_dir(save, 2))
        changes[name] = SCHEDULE | LAYOUTS[name] | {"save": str(save)}
    for name, run in run_all(world, folder, changes, 4).items():
        assert [record["iteration"] for record in run] == [3, 4, 5], name
        for expected, record in zip(one_rank[2:], run, strict=True):
            assert record["loss"] == pytest.approx(expected["loss"], rel=1e-5), (name, record["iteration"])
            assert record["grad_norm"] == pytest.approx(expected["grad_norm"], rel=1e-5), (name, record["iteration"])
