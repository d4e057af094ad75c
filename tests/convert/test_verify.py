"""What is expected of an export: the tables hold what transformers' own models hold, and differences are refused."""

from pathlib import Path

import pytest

from megatron_sft.convert.mapping import architecture_map, entries
from megatron_sft.convert.verify import compare_shapes, open_with_transformers, transformers_shapes, verify_export
from megatron_sft.errors import ConversionError
from megatron_sft.model.geometry import ModelGeometry
from tests.convert.models import CONFIG, FAMILIES, edit_json, save_model

pytestmark = pytest.mark.trainer


@pytest.mark.parametrize("is_tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_tables_have_the_tensors_of_transformers_models(family: str, is_tied: bool, tmp_path: Path) -> None:
    folder = save_model(tmp_path, family=family, tie_word_embeddings=is_tied)
    table = dict(tensor for entry in entries(ModelGeometry.from_hf_config(folder)) for tensor in entry.hf)
    assert table == transformers_shapes(folder)
    assert len(table) > 30


def test_whose_code_comes_with_the_model() -> None:
    import transformers

    kinds = [*FAMILIES, "internlm2"]
    maps = {kind: architecture_map(ModelGeometry.from_hf_config({**CONFIG, "model_type": kind})) for kind in kinds}
    known = transformers.models.auto.configuration_auto.CONFIG_MAPPING
    assert {kind: table.is_in_transformers for kind, table in maps.items()} == {kind: kind in known for kind in kinds}


def test_shapes_that_differ() -> None:
    message = r"x: 2 tensors .* as Y has them, such as a: exported \(1,\), expected \(2,"
    with pytest.raises(ConversionError, match=message):
        compare_shapes(Path("x"), {"a": (1,), "b": (3,)}, {"a": (2,), "b": (3,), "c": (1,)}, "Y")


def test_a_stop_id_that_is_lost(model_copy: Path) -> None:
    edit_json(model_copy / "generation_config.json", eos_token_id=[3])
    with pytest.raises(ConversionError, match=r"eos_token_id \[3\] lacks the tokenizer's 1"):
        open_with_transformers(model_copy)
    edit_json(model_copy / "generation_config.json", eos_token_id=[3, 1])
    open_with_transformers(model_copy)


def test_another_geometry(model_copy: Path) -> None:
    geometry = ModelGeometry.from_hf_config(model_copy)
    edit_json(model_copy / "config.json", rms_norm_eps=1e-5)
    with pytest.raises(ConversionError, match="does not describe the checkpoint's geometry"):
        verify_export(model_copy, geometry, [], {})
