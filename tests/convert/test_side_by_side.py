"""Two models side by side: equal ones agree, and of different ones the first wrong layer is named."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from megatron_sft.convert.__main__ import main
from megatron_sft.convert.side_by_side import verify_models
from megatron_sft.errors import ConversionError
from tests.convert.models import megatron_tensors, read_weights, save_as_internlm2, save_model

pytestmark = pytest.mark.trainer

PROMPTS = ["a b c", "c c a b a"]


def findings(left: Path, right: Path, **options: float) -> tuple[bool, list[str]]:
    lines: list[str] = []
    return verify_models(left, right, prompts=PROMPTS, num_tokens=8, say=lines.append, **options), lines


def change(folder: Path, name: str, amount: float) -> None:
    weights = read_weights(folder)
    weights[name].view(-1)[0] += amount
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def test_a_model_agrees_with_its_checkpoint(model_folder: Path, write_checkpoint: Callable[..., Path]) -> None:
    save = write_checkpoint(model_folder, megatron_tensors(model_folder), stop_token_ids=[])
    agrees, lines = findings(model_folder, save)
    assert agrees
    assert [line for line in lines if line.startswith("prompt")] == [
        f"prompt {prompt!r}: largest difference of logits 0" for prompt in PROMPTS
    ]
    assert lines.count("  greedy: the same 8 tokens") == 2
    assert findings(save, model_folder)[0]


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("model.layers.0.mlp.down_proj.weight", "layer 0"),
        ("model.layers.2.self_attn.v_proj.weight", "layer 2"),
        ("model.norm.weight", "final norm"),
        ("lm_head.weight", "logits"),
    ],
)
def test_the_first_wrong_layer_is_named(name: str, place: str, model_folder: Path, model_copy: Path) -> None:
    change(model_copy, name, 1.0)
    agrees, lines = findings(model_folder, model_copy)
    assert not agrees
    assert [line for line in lines if "first difference" in line] == [f"  first difference: {place}; by place:"] * 2
    by_place = {line[4:16].strip(): float(line[16:]) for line in lines if line.startswith("    ")}
    names = ["embedding", *(f"layer {number}" for number in range(4)), "final norm", "logits"]
    assert list(by_place) == names
    assert [by_place[name] > 0 for name in names] == [number >= names.index(place) for number in range(len(names))]


def test_greedy_continuations_part(model_folder: Path, tmp_path: Path) -> None:
    other = save_model(tmp_path / "other", tie_word_embeddings=False, seed=1)
    agrees, lines = findings(model_folder, other)
    assert not agrees
    assert any(line.startswith("  greedy: part at token 1: ") for line in lines)
    assert "  first difference: embedding; by place:" in lines


def test_tolerance_and_nan(model_folder: Path, model_copy: Path) -> None:
    change(model_copy, "lm_head.weight", 1e-4)
    assert not findings(model_folder, model_copy)[0]
    assert findings(model_folder, model_copy, tolerance=0.01)[0]
    change(model_copy, "model.norm.weight", float("nan"))
    assert not findings(model_folder, model_copy, tolerance=1e9)[0]


def test_models_that_cannot_be_compared(model_folder: Path, tmp_path: Path) -> None:
    deeper = save_model(tmp_path / "deeper", num_hidden_layers=5)
    with pytest.raises(ConversionError, match="num_layers is 4 and 5"):
        findings(model_folder, deeper)
    internlm2 = save_as_internlm2(save_model(tmp_path / "llama", family="llama"), tmp_path / "internlm2")
    with pytest.raises(ConversionError, match="the code in the folder is not run"):
        findings(internlm2, internlm2)


def test_exit_status(model_folder: Path, model_copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "prompts.txt").write_text("a b c\n\nb\n")
    options = ["--prompts", str(tmp_path / "prompts.txt"), "--num-tokens", "2"]
    assert main(["verify", str(model_folder), str(model_copy), *options]) == 0
    assert "the models agree" in capsys.readouterr().out
    change(model_copy, "model.norm.weight", 1.0)
    assert main(["verify", str(model_folder), str(model_copy), *options]) == 1
    assert "the models differ" in capsys.readouterr().out
    assert main(["verify", str(model_folder), str(tmp_path / "nowhere"), *options]) == 2
    (tmp_path / "prompts.txt").write_text("\n")
    assert main(["verify", str(model_folder), str(model_copy), *options]) == 2
    assert "no line with text" in capsys.readouterr().err


def test_logits_do_not_depend_on_torch_state(model_folder: Path) -> None:
    """Two loads of one model give equal bits, so a difference is never noise."""
    torch.manual_seed(1)
    assert findings(model_folder, model_folder, tolerance=0.0)[0]
