"""Models known by name: their sizes are those of the published weights, and the paper's layouts split them."""

import pytest
import yaml

from megatron_sft.errors import ConfigError
from megatron_sft.model.layout import uneven_split
from megatron_sft.model.parameter_counts import num_parameters
from megatron_sft.planning.known_models import KNOWN, geometry_of
from megatron_sft.planning.layouts import Layout
from megatron_sft.recipes.paper import TABLE
from tests.planning.published import QWEN3

PARAMETERS = {name: total for name, (_, total) in QWEN3.items()} | {
    # total_size / 2 of the published model.safetensors.index.json; 1.5B: the elements of its one file.
    "qwen2.5-1.5b": 1_543_714_304,
    "qwen2.5-3b": 6_171_877_376 // 2,
    "qwen2.5-7b": 15_231_233_024 // 2,
    "qwen2.5-14b": 29_540_067_328 // 2,
    "smollm2-135m": 134_515_008,
    # The model card says 20 billion. By hand: embedding and output layer; wqkv, wo, w1 to w3, two norms; the last norm.
    "internlm2.5-20b": 2 * 92544 * 6144 + 48 * 6144 * (8192 + 6144 + 3 * 16384 + 2) + 6144,
}


@pytest.mark.parametrize("name", KNOWN)
def test_parameters_are_those_of_the_published_weights(name: str) -> None:
    assert num_parameters(geometry_of(name)) == PARAMETERS[name]


@pytest.mark.trainer
@pytest.mark.parametrize("name", ["qwen2.5-1.5b", "qwen2.5-7b", "smollm2-135m"])
def test_parameters_are_those_of_transformers(name: str) -> None:
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    with torch.device("meta"):
        config = transformers.AutoConfig.for_model(**geometry_of(name).hf_config)
        model = transformers.AutoModelForCausalLM.from_config(config)
    assert num_parameters(geometry_of(name)) == sum(p.numel() for p in model.parameters())


def test_the_models_of_the_paper_are_known_and_its_layouts_split_them() -> None:
    table = yaml.safe_load(TABLE.read_text())
    model, layout = (table["columns"].index(name) for name in ("base_model", "layout"))
    pairs = {(row[model], row[layout]) for row in table["runs"]}
    assert len(pairs) == len(table["base_models"])
    for name, size in pairs:
        geometry = geometry_of(name.lower().removesuffix("-base"))
        for options in table["layouts"][size].values():
            tp, pp = options["tensor_model_parallel_size"], options["pipeline_model_parallel_size"]
            parallel = Layout(tp=tp, pp=pp).parallel(options.get("sequence_parallel", False))
            assert uneven_split(geometry, parallel) is None, (name, options)


def test_unknown_names_are_answered_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"cannot read the model config.*or one of qwen3-0\.6b.*smollm2-135m"):
        geometry_of("qwen9-1b")
