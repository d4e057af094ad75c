"""Figures against transformers, and the same whatever the layout."""

import numpy as np
import pytest

pytest.importorskip("megatron.core")

from megatron_sft.data import build_shards, make_tasks
from megatron_sft.data.make_tokenizer import MakeTokenizerConfig, make_tokenizer
from megatron_sft.data.order import SampleOrder
from megatron_sft.data.shards import ShardReader
from megatron_sft.model.flops import model_flops
from megatron_sft.model.geometry import ModelGeometry
from megatron_sft.train.figures import describe_range
from tests.train.harness import BATCH, World, save_model
from tests.train.layout_runs import run_all

pytestmark = pytest.mark.trainer

TP2 = {"tensor_model_parallel_size": 2}
PP2 = {"pipeline_model_parallel_size": 2}
# Of two ranks. Pieces of 40 tokens cut rows of up to 320 anywhere.
LAYOUTS = {
    "dp2": {},
    "tp2 sp": TP2 | {"sequence_parallel": True},
    "pp2": PP2,
    "pp2 interleaved": PP2 | {"num_virtual_stages_per_pipeline_rank": 2},
    "cp2": {"context_parallel_size": 2},
    "sample-mean": {"loss_weighting": "sample-mean"},
}
# Nothing is learnt, so that every iteration has the weights of the file; clipping bites.
RUN = {
    "train_iters": 2, "lr": 0.0, "shuffle": True, "loss_piece_tokens": 40, "log_params_norm_interval": 1,
    "clip_grad": 0.5, "peak_tflops": 0.5,
}  # fmt: skip


@pytest.fixture(scope="module")
def two_sources(tmp_path_factory) -> World:
    """Two tasks, each in a file of its own."""
    folder = tmp_path_factory.mktemp("sources")
    rows = []
    for task in ("addition", "sorting"):
        config = make_tasks.MakeTasksConfig(tasks=task, num_train=24, num_held_out=4, output=folder / task)
        make_tasks.run(config)
        rows.append(folder / task / f"{task}.train.jsonl")
    make_tokenizer(MakeTokenizerConfig(inputs=tuple(map(str, rows)), output=folder / "tokenizer", vocab_size=320))
    options = {"output": folder / "shards", "tokenizer": folder / "tokenizer", "max_length": 320}
    build_shards.main(build_shards.BuildShardsConfig(inputs=tuple(map(str, rows)), **options))
    model = save_model(folder / "model", folder / "tokenizer")
    return World(rows=rows[0], tokenizer=folder / "tokenizer", shards=folder / "shards", model=model)


@pytest.fixture(scope="module")
def runs(two_sources, tmp_path_factory) -> dict[str, list[dict]]:
    folder = tmp_path_factory.mktemp("runs")
    return run_all(two_sources, folder, {name: RUN | changes for name, changes in LAYOUTS.items()}, 2)


@pytest.fixture(scope="module")
def expected(two_sources) -> list[dict]:
    """Losses of each source in the first two batches, and the weights' norm, with transformers alone."""
    import torch
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(two_sources.model, dtype=torch.float32)
    reader = ShardReader(two_sources.shards)
    order = SampleOrder(num_samples=reader.num_samples, global_batch_size=BATCH, shuffle=True, seed=1234)
    norm = sum(float(parameter.detach().double().square().sum()) for parameter in model.parameters()) ** 0.5
    found = []
    for iteration in range(2):
        sums, tokens = np.zeros(2), np.zeros(2)
        samples = order.batch(iteration)
        for index in samples.tolist():
            sample = reader.sample(index)
            ids = torch.from_numpy(sample.tokens.astype(np.int64))
            with torch.no_grad():
                logits = model(ids[None]).logits[0, :-1].double()
            losses = torch.nn.functional.cross_entropy(logits, ids[1:], reduction="none")
            trained = torch.from_numpy(sample.trained[1:] == 1)
            # The first 24 samples are additions.
            sums[int(index >= 24)] += float(losses[trained].sum())
            tokens[int(index >= 24)] += int(trained.sum())
        found.append({"means": sums / tokens, "norm": norm, "lengths": reader.lengths[samples].tolist()})
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", LAYOUTS)
def test_source_losses_and_the_norm_of_the_weights_are_those_of_transformers(runs, expected, name):
    for record, reference in zip(runs[name], expected, strict=True):
        losses = record["source_losses"]
        assert list(losses) == ["addition/addition.train.jsonl", "sorting/sorting.train.jsonl"]
        assert list(losses.values()) == pytest.approx(reference["means"].tolist(), rel=1e-5)
        assert record["params_norm"] == pytest.approx(reference["norm"], rel=1e-6)
    assert abs(expected[0]["means"][0] - expected[0]["means"][1]) > 1e-3, "the sources should differ"


@pytest.mark.slow
def test_speeds_norms_and_imbalance_agree_with_each_other(two_sources, runs, expected):
    geometry = ModelGeometry.from_hf_config(two_sources.model)
    for name, records in runs.items():
        for record, reference in zip(records, expected, strict=True):
            seconds = record["step_time_s"]
            assert record["tokens_per_s_per_gpu"] == pytest.approx(record["tokens"] / seconds / 2), name
            tflops = model_flops(geometry, reference["lengths"]) / seconds / 2 / 1e12
            assert record["model_tflops_per_gpu"] == pytest.approx(tflops), name
            assert record["mfu"] == pytest.approx(tflops / 0.5), name
            assert record["grad_norm"] > 0.5
            assert record["clipped_grad_norm"] == pytest.approx(0.5, rel=1e-5), name
            # By definition between 1 and the number of ranks.
            assert 1.0 <= record["time_imbalance"] < 2.0, name
            assert 2**20 < record["memory_peak_bytes"] < 2**40, name
            assert record["memory_reserved_bytes"] is None and record["fp8_amax"] is None
    assert any(record["cost_imbalance"] > 1.0 for record in runs["dp2"])
    assert {record["cost_imbalance"] for record in runs["cp2"]} == {1.0}


def test_samples_in_a_row_are_a_range_and_others_are_listed():
    assert describe_range(np.arange(512, 768)) == "samples 512 to 767"
    assert describe_range(np.array([7])) == "sample 7"
    assert describe_range(np.array([7, 3])) == "2 samples (7, 3)"
    assert describe_range(np.arange(20)[::-1]) == "20 samples (19, 18, 17, 16, 15, 14, 13, 12, ...)"
