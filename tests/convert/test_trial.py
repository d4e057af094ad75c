"""What an export is asked to say before it is called done."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from megatron_sft.convert import trial
from megatron_sft.convert.to_hf import export
from megatron_sft.errors import ConversionError
from tests.convert.models import megatron_tensors, save_as_internlm2, save_model

pytestmark = pytest.mark.trainer

Write = Callable[..., Path]


def test_it_generates_what_transformers_generates(any_model: Path, write_checkpoint: Write, tmp_path: Path) -> None:
    import transformers

    export(write_checkpoint(any_model, megatron_tensors(any_model)), tmp_path / "out")
    found = json.loads((tmp_path / "out" / "provenance.json").read_text())["trial"]
    model = transformers.AutoModelForCausalLM.from_pretrained(any_model)
    prompt = torch.tensor([found["prompt_token_ids"]])
    expected = model.generate(prompt, max_new_tokens=trial.NUM_TOKENS, do_sample=False, attention_mask=prompt >= 0)
    assert found["token_ids"] == expected[0, prompt.shape[1] :].tolist()
    assert 1 <= len(found["token_ids"]) <= trial.NUM_TOKENS


def test_weights_that_are_no_numbers_are_refused(model_folder: Path, write_checkpoint: Write, tmp_path: Path) -> None:
    tensors = megatron_tensors(model_folder)
    tensors["decoder.layers.2.mlp.linear_fc2.weight"][3, 5] = float("nan")
    save = write_checkpoint(model_folder, tensors)
    with pytest.raises(ConversionError, match="a logit is not finite"):
        export(save, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir() if "out" in path.name) == []


def test_when_it_is_left_out(write_checkpoint: Write, tmp_path: Path) -> None:
    llama = save_model(tmp_path / "llama", family="llama")
    internlm2 = save_as_internlm2(llama, tmp_path / "internlm2")
    lines: list[str] = []
    export(write_checkpoint(internlm2, megatron_tensors(internlm2)), tmp_path / "a", say=lines.append)
    assert any("the code of internlm2 comes with the model" in line for line in lines)
    assert "trial" not in json.loads((tmp_path / "a" / "provenance.json").read_text())
    assert trial.is_wanted("auto", trial.AUTO_BYTES)
    assert not trial.is_wanted("auto", trial.AUTO_BYTES + 1)
    assert trial.is_wanted("always", 1 << 40)
    assert not trial.is_wanted("never", 1)
