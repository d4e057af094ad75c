"""The same samples give the same losses in every layout."""

import pytest

pytest.importorskip("megatron.core")

from tests.train.layout_runs import run_all

pytestmark = [pytest.mark.trainer, pytest.mark.slow]

ITERATIONS = 5
SCHEDULE = {"train_iters": ITERATIONS, "lr": 1e-3}
TP2 = {"tensor_model_parallel_size": 2}
PP2 = {"pipeline_model_parallel_size": 2}
CP2 = {"context_parallel_size": 2}
SP = {"sequence_parallel": True}
INTERLEAVED = {"num_virtual_stages_per_pipeline_rank": 2}
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
    "dp4, other rows": {"seq_length": 512},
}


@pytest.fixture(scope="module")
def one_rank(world, tmp_path_factory):
    return run_all(world, tmp_path_factory.mktemp("one"), {"one rank": SCHEDULE}, 1)["one rank"]


@pytest.fixture(scope="module")
def four_ranks(world, tmp_path_factory):
    options = {name: SCHEDULE | changes for name, changes in LAYOUTS.items()}
    return run_all(world, tmp_path_factory.mktemp("four"), options, 4)


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
