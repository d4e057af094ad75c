"""The comparison of conversion with copying, on a model of one layer."""

import re
from pathlib import Path

import pytest
from safetensors.torch import load_file

from megatron_sft.workbench.bench.__main__ import main
from megatron_sft.workbench.bench.convert import ConvertConfig, make_model

pytestmark = pytest.mark.trainer

SMALL = ConvertConfig(num_layers=1, vocab_size=100)


def test_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--num-layers", "1", "--vocab-size", "100", "--repeat", "1", "--work", str(tmp_path)]
    assert main(["convert", *options]) == 0
    output = capsys.readouterr().out
    assert "model: 1 layers, 0.10 GB in bfloat16" in output
    assert re.search(r"^ +median s +least +most +MB/s +cpu s +MiB +copies$", output, re.MULTILINE)
    for name in ("copy", "from-hf", "to-hf"):
        row = re.search(rf"^{name} .*$", output, re.MULTILINE)
        assert row is not None
        median, least, most, *_, copies = map(float, row[0].split()[1:])
        assert least == median == most > 0
        assert copies == 1 or name != "copy"
    assert list(tmp_path.iterdir()) == []


def test_the_model_is_the_same_every_time_and_finite(tmp_path: Path) -> None:
    digest = make_model(tmp_path / "a", SMALL)
    assert make_model(tmp_path / "b", SMALL) == digest
    weights = load_file(tmp_path / "a" / "model.safetensors")
    assert weights["model.embed_tokens.weight"].shape == (100, 2048)
    assert all(tensor.isfinite().all() and tensor.float().abs().max() < 2 for tensor in weights.values())
    assert 0.1 < (weights["model.embed_tokens.weight"] < 0).float().mean() < 0.9


def test_wrong_options(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["convert", "--repeat", "0"])
    assert "--repeat 0 --num-layers 28" in capsys.readouterr().err
