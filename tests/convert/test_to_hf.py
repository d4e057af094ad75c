"""Export: complete and equal to the checkpoint, or nothing at the output."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from megatron_sft.convert import to_hf
from megatron_sft.convert.dtypes import Dtype
from megatron_sft.convert.to_hf import export
from megatron_sft.errors import CheckpointError, ConversionError
from megatron_sft.model import checkpoint_dir
from tests.convert.models import REPOSITORY, edit_json, megatron_tensors, read_weights, same_bytes

pytestmark = pytest.mark.trainer

Write = Callable[..., Path]


def refusal(save: Path, output: Path, error: type[Exception] = ConversionError) -> str:
    """The message of an export that fails and leaves nothing behind."""
    with pytest.raises(error) as caught:
        export(save, output)
    assert not output.exists()
    assert not list(output.parent.glob(f".{output.name}*"))
    return str(caught.value)


def test_complete_folder(any_model: Path, write_checkpoint: Write, tmp_path: Path) -> None:
    import transformers

    save = write_checkpoint(any_model, megatron_tensors(any_model), stop_token_ids=[2], consumed_samples=320)
    summary = export(save, tmp_path / "out")
    assert same_bytes(read_weights(any_model), read_weights(tmp_path / "out"))
    assert (summary.iteration, summary.num_files, summary.dtype) == (10, 1, Dtype.FLOAT32)
    info = json.loads((tmp_path / "out" / "megatron_sft.json").read_text())
    assert (info["iteration"], info["consumed_samples"], info["dtype"]) == (10, 320, "float32")
    assert info["source"] == str(save / "iter_0000010")
    generation = transformers.GenerationConfig.from_pretrained(tmp_path / "out")
    assert generation.eos_token_id == [3, 2, 1, 4]
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer.apply_chat_template([{"role": "user", "content": "a b"}], tokenize=False) == "a b"
    tokens = torch.tensor([[5, 7, 11, 3]])
    models = [transformers.AutoModelForCausalLM.from_pretrained(path) for path in (any_model, tmp_path / "out")]
    assert torch.equal(models[0](tokens).logits, models[1](tokens).logits)


def test_several_files_and_another_dtype(model_folder: Path, write_checkpoint: Write, tmp_path: Path) -> None:
    save = write_checkpoint(model_folder, megatron_tensors(model_folder))
    summary = export(save, tmp_path / "out", dtype=Dtype.BFLOAT16, max_file_bytes=50_000)
    names = sorted(path.name for path in (tmp_path / "out").glob("*.safetensors"))
    assert names == [f"model-{i:05d}-of-{len(names):05d}.safetensors" for i in range(1, len(names) + 1)]
    assert summary.num_files == len(names) > 1
    expected = {name: tensor.bfloat16() for name, tensor in read_weights(model_folder).items()}
    assert same_bytes(expected, read_weights(tmp_path / "out"))
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "bfloat16"


def test_norms_wider_than_matrices_stay_so(model_folder: Path, write_checkpoint: Write, tmp_path: Path) -> None:
    tensors = {name: t if t.ndim == 1 else t.bfloat16() for name, t in megatron_tensors(model_folder).items()}
    assert export(write_checkpoint(model_folder, tensors), tmp_path / "out").dtype is Dtype.BFLOAT16
    expected = {name: t if t.ndim == 1 else t.bfloat16() for name, t in read_weights(model_folder).items()}
    assert same_bytes(expected, read_weights(tmp_path / "out"))


def test_one_iteration_of_several(model_folder: Path, write_checkpoint: Write, tmp_path: Path) -> None:
    tensors = megatron_tensors(model_folder)
    write_checkpoint(model_folder, tensors, iteration=10)
    save = write_checkpoint(model_folder, {name: tensor + 1 for name, tensor in tensors.items()}, iteration=20)
    assert export(save, tmp_path / "latest").iteration == 20
    assert export(save, tmp_path / "named", 10).iteration == 10
    assert export(save / "iter_0000010", tmp_path / "folder").iteration == 10
    assert same_bytes(read_weights(tmp_path / "named"), read_weights(tmp_path / "folder"))
    assert same_bytes(read_weights(tmp_path / "named"), read_weights(model_folder))
    with pytest.raises(CheckpointError, match="no complete checkpoint of iteration 30"):
        export(save, tmp_path / "none", 30)


def test_incomplete_checkpoint(model_folder: Path, write_checkpoint: Write, tmp_path: Path) -> None:
    save = write_checkpoint(model_folder, megatron_tensors(model_folder))
    (save / "iter_0000010" / checkpoint_dir.MARKER).unlink()
    assert "no complete checkpoint" in refusal(save, tmp_path / "out", CheckpointError)
    assert "there is no such folder" in refusal(tmp_path / "nowhere", tmp_path / "out", CheckpointError)


def test_checkpoint_with_wrong_tensors(model_folder: Path, write_checkpoint: Write, tmp_path: Path) -> None:
    tensors = megatron_tensors(model_folder)
    name = "decoder.layers.2.mlp.linear_fc2.weight"
    weight = tensors.pop(name)
    assert f"tensor {name} is missing" in refusal(write_checkpoint(model_folder, tensors), tmp_path / "out")
    save = write_checkpoint(model_folder, {**tensors, name: weight[:, :-1].contiguous()})
    assert "has shape (32, 47); config.json calls for (32, 48)" in refusal(save, tmp_path / "out")
    save = write_checkpoint(model_folder, {**tensors, name: weight, "decoder.layers.0.mlp.router.weight": weight})
    assert "such as decoder.layers.0.mlp.router.weight; they would be lost" in refusal(save, tmp_path / "out")
    twice = {"decoder.layers.0.input_layernorm.weight": torch.ones(32)}
    save = write_checkpoint(model_folder, {**tensors, name: weight, **twice})
    assert "is stored 2 times" in refusal(save, tmp_path / "out")
    save = write_checkpoint(model_folder, {**tensors, name: weight, "optimizer.state.exp_avg.x": weight})
    assert export(save, tmp_path / "out").num_tensors == 47


def test_vocabulary_smaller_than_the_model(model_folder: Path, write_checkpoint: Write, tmp_path: Path) -> None:
    save = write_checkpoint(model_folder, megatron_tensors(model_folder, padded=101))
    edit_json(save / "iter_0000010" / "hf" / "config.json", vocab_size=102)
    assert "embedding.word_embeddings.weight has shape (101, 32)" in refusal(save, tmp_path / "out")


def test_damaged_files(model_folder: Path, write_checkpoint: Write, tmp_path: Path) -> None:
    save = write_checkpoint(model_folder, megatron_tensors(model_folder))
    folder = save / "iter_0000010"
    (data,) = folder.glob("*.distcp")
    content = data.read_bytes()
    place = content.index(megatron_tensors(model_folder)["output_layer.weight"].numpy().tobytes()) + 1000
    data.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    assert "cannot read output_layer.weight; a file of the checkpoint is missing, truncated or damaged" in refusal(
        save, tmp_path / "out"
    )
    middle = len(content) // 2
    data.write_bytes(content[:middle] + bytes(5000) + content[middle + 5000 :])
    assert "missing, truncated or damaged" in refusal(save, tmp_path / "out")
    data.write_bytes(content[:middle])
    assert f"{data} is truncated: {middle} bytes, and data up to byte" in refusal(save, tmp_path / "out")
    data.unlink()
    assert f"{data} is missing: " in refusal(save, tmp_path / "out")
    (folder / ".metadata").write_bytes(b"x")
    assert "cannot read the distributed checkpoint's .metadata" in refusal(save, tmp_path / "out")


def test_missing_tokenizer(model_folder: Path, write_checkpoint: Write, tmp_path: Path) -> None:
    save = write_checkpoint(model_folder, megatron_tensors(model_folder))
    (save / "iter_0000010" / "hf" / "tokenizer.json").unlink()
    assert "tokenizer.json" in refusal(save, tmp_path / "out")


def test_existing_output_is_not_touched(model_folder: Path, write_checkpoint: Write, tmp_path: Path) -> None:
    save = write_checkpoint(model_folder, megatron_tensors(model_folder))
    (tmp_path / "out").mkdir()
    export(save, tmp_path / "out")  # an empty folder is fine
    before = sorted((path.name, path.stat().st_mtime_ns) for path in (tmp_path / "out").iterdir())
    with pytest.raises(ConversionError, match="already exists"):
        export(save, tmp_path / "out")
    assert sorted((path.name, path.stat().st_mtime_ns) for path in (tmp_path / "out").iterdir()) == before


def test_wrong_bytes_on_disk_are_found(
    model_folder: Path, write_checkpoint: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = write_checkpoint(model_folder, megatron_tensors(model_folder))

    def write_and_flip(folder: Path, plan: object, tensors: object) -> object:
        digests = write_tensors(folder, plan, tensors)  # type: ignore[arg-type]
        path = folder / "model.safetensors"
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
        return digests

    write_tensors = to_hf.write_tensors
    monkeypatch.setattr(to_hf, "write_tensors", write_and_flip)
    assert "model.safetensors: differs on the disk from what was read" in refusal(save, tmp_path / "out")


def test_kill_leaves_no_output(model_folder: Path, write_checkpoint: Write, tmp_path: Path) -> None:
    save = write_checkpoint(model_folder, megatron_tensors(model_folder))
    # The process stops dead after 20 of 47 tensors, as a kill -9 would have it.
    program = textwrap.dedent(f"""
        import os, signal, itertools
        from megatron_sft.convert import to_hf
        read_all = to_hf._Source.read_all
        def until_killed(self):
            yield from itertools.islice(read_all(self), 20)
            os.kill(os.getpid(), signal.SIGKILL)
        to_hf._Source.read_all = until_killed
        to_hf.export({str(save)!r}, {str(tmp_path / "out")!r})
    """)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not (tmp_path / "out").exists()
    assert (tmp_path / ".out.partial" / "model.safetensors").exists()
    export(save, tmp_path / "out")
    assert not (tmp_path / ".out.partial").exists()
    assert same_bytes(read_weights(model_folder), read_weights(tmp_path / "out"))
