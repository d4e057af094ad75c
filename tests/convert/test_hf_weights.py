"""Loading a Hugging Face folder into a model: exactly the right tensors or an error."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from megatron_sft.convert.hf_weights import check_folder, load_hf_into
from megatron_sft.convert.mapping import entries
from megatron_sft.convert.safetensors_folder import SafetensorsFolder
from megatron_sft.errors import ConversionError
from megatron_sft.model.geometry import ModelGeometry
from tests.convert.models import edit_json, read_weights, save_model, whole_tensor

pytestmark = pytest.mark.trainer


class Stage(torch.nn.Module):
    """The parameters of one pipeline stage under Megatron-Core's names, without its machinery."""

    def __init__(self, geometry: ModelGeometry, layers: range, tp: int, *, fused_norms: bool = False) -> None:
        super().__init__()
        first, last = layers.start == 0, layers.stop == geometry.num_layers
        self.decoder = torch.nn.Module()
        self.decoder.layers = torch.nn.ModuleList()
        for number in layers:
            layer = torch.nn.Module()
            layer.layer_number = number + 1
            self.decoder.layers.append(layer)
        for entry in entries(geometry):
            name = entry.megatron_names[-1 if fused_norms else 0]
            if entry.layer is not None and entry.layer in layers:
                name = name.replace(f"layers.{entry.layer}.", f"layers.{entry.layer - layers.start}.")
            elif entry.layer is not None or not (first if name.startswith("embedding") else last):
                continue
            self._add(name, entry.shape(tp, 128))
        if last and geometry.tie_word_embeddings and not first:
            self._add("output_layer.weight", entries(geometry)[0].shape(tp, 128))

    def _add(self, name: str, shape: tuple[int, ...]) -> None:
        *path, leaf = name.split(".")
        module: torch.nn.Module = self
        for part in path:
            if part not in module._modules:
                module.add_module(part, torch.nn.Module())
            module = module.get_submodule(part)
        module.register_parameter(leaf, torch.nn.Parameter(torch.full(shape, float("nan"))))


@pytest.mark.parametrize("fused_norms", [False, True])
def test_every_parameter_of_every_rank(fused_norms: bool, any_model: Path) -> None:
    geometry, weights = ModelGeometry.from_hf_config(any_model), read_weights(any_model)
    for layers in (range(2), range(2, 4)):
        ranks = []
        for rank in range(2):
            stage = Stage(geometry, layers, 2, fused_norms=fused_norms)
            load_hf_into(stage, geometry, any_model, tp_rank=rank, tp_size=2)
            ranks.append(dict(stage.named_parameters()))
        assert not any(parameter.isnan().any() for named in ranks for parameter in named.values())
        name = "decoder.layers.0.self_attention.linear_qkv.weight"
        stored = f"decoder.layers.{layers.start}.self_attention.linear_qkv.weight"
        (entry,) = (entry for entry in entries(geometry) if stored in entry.megatron_names)
        whole = whole_tensor(entry, weights, geometry, 128)
        assert torch.equal(torch.cat([named[name] for named in ranks]), whole)


def test_last_stage_of_a_tied_model_gets_the_embedding(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "tied")
    geometry, embedding = ModelGeometry.from_hf_config(folder), read_weights(folder)["model.embed_tokens.weight"]
    stage = Stage(geometry, range(2, 4), 1)
    summary = load_hf_into(stage, geometry, folder, tp_rank=0, tp_size=1)
    output = stage.get_parameter("output_layer.weight")
    assert torch.equal(output[:101], embedding)
    assert not output[101:].any()
    assert summary.num_parameters == len(list(stage.parameters())) == 2 * 8 + 2


def test_wrapped_models_and_other_dtypes(model_folder: Path) -> None:
    geometry = ModelGeometry.from_hf_config(model_folder)
    stage = Stage(geometry, range(4), 1).bfloat16()
    wrapper = torch.nn.Module()
    wrapper.module = stage
    summary = load_hf_into(wrapper, geometry, model_folder, tp_rank=0, tp_size=1)
    assert summary.source_dtypes == (torch.float32,)
    norm = read_weights(model_folder)["model.norm.weight"]
    assert torch.equal(stage.get_parameter("decoder.final_layernorm.weight"), norm.bfloat16())


def test_parameters_that_do_not_fit(model_folder: Path) -> None:
    geometry = ModelGeometry.from_hf_config(model_folder)
    stage = Stage(geometry, range(4), 1)
    stage.register_parameter("extra", torch.nn.Parameter(torch.zeros(1)))
    with pytest.raises(ConversionError, match="no rule for extra"):
        load_hf_into(stage, geometry, model_folder, tp_rank=0, tp_size=1)
    stage = Stage(geometry, range(4), 1)
    del stage.decoder.layers[1].mlp.linear_fc2
    with pytest.raises(ConversionError, match=r"no parameter for decoder\.layers\.1\.mlp\.linear_fc2\.weight"):
        load_hf_into(stage, geometry, model_folder, tp_rank=0, tp_size=1)
    stage = Stage(geometry, range(4), 2)
    with pytest.raises(ConversionError, match=r"parameter [\w.]+ has shape"):
        load_hf_into(stage, geometry, model_folder, tp_rank=0, tp_size=1)


def refusal(folder: Path) -> str:
    with pytest.raises(ConversionError) as error, SafetensorsFolder(folder) as opened:
        check_folder(opened, ModelGeometry.from_hf_config(folder))
    return str(error.value)


def test_missing_additional_and_misshapen_tensors(model_copy: Path) -> None:
    path = model_copy / "model.safetensors"
    weights = load_file(path)
    norm = weights.pop("model.layers.2.input_layernorm.weight")
    save_file(weights, path)
    assert "missing model.layers.2.input_layernorm.weight" in refusal(model_copy)
    save_file({**weights, "model.layers.2.input_layernorm.weight": norm, "model.layers.2.q.bias": norm.clone()}, path)
    assert "not part of the model model.layers.2.q.bias" in refusal(model_copy)
    save_file({**weights, "model.layers.2.input_layernorm.weight": norm[:-1].clone()}, path)
    assert "input_layernorm.weight has shape (31,); config.json calls for (32,)" in refusal(model_copy)


def test_rotary_frequencies_of_older_folders_are_passed_over(model_copy: Path) -> None:
    path = model_copy / "model.safetensors"
    save_file({**load_file(path), "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8)}, path)
    with SafetensorsFolder(model_copy) as opened:
        check_folder(opened, ModelGeometry.from_hf_config(model_copy))


def test_a_config_of_fewer_layers_does_not_drop_weights(model_copy: Path) -> None:
    edit_json(model_copy / "config.json", num_hidden_layers=3, layer_types=None)
    assert "model.layers.3." in refusal(model_copy)
    assert "and 8 more" in refusal(model_copy)


def test_copy_of_a_tied_embedding_must_be_equal(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "tied")
    path = folder / "model.safetensors"
    weights = load_file(path)
    embedding = weights["model.embed_tokens.weight"]
    save_file({**weights, "lm_head.weight": embedding.clone()}, path)
    with SafetensorsFolder(folder) as opened:
        check_folder(opened, ModelGeometry.from_hf_config(folder))
    save_file({**weights, "lm_head.weight": embedding + 1}, path)
    assert "lm_head.weight differs from model.embed_tokens.weight" in refusal(folder)
