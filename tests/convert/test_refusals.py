"""What cannot be converted is refused, with a reason, and leaves nothing at the output."""

import contextlib
import json
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from megatron_sft.convert.from_hf import import_model
from megatron_sft.convert.to_hf import export
from megatron_sft.data.chat import ChatTokenizer
from megatron_sft.errors import ConfigError, ConversionError, UserError
from tests.convert.models import edit_json, megatron_tensors, save_model

pytestmark = pytest.mark.trainer

Write = Callable[..., Path]


def nothing_at(output: Path) -> bool:
    """Whether neither the output nor anything half-written is there."""
    hidden = list(output.parent.glob(f".{output.name}*"))
    return not hidden and not (output.exists() and any(output.iterdir()))


def export_refused(save: Path, output: Path) -> str:
    with pytest.raises(UserError) as caught:
        export(save, output)
    assert nothing_at(output)
    return str(caught.value)


def import_refused(model: Path, output: Path) -> str:
    with pytest.raises(UserError) as caught:
        import_model(model, output)
    assert nothing_at(output)
    return str(caught.value)


def test_truncated_weights(model_copy: Path, tmp_path: Path) -> None:
    weights = model_copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert "model.safetensors: not a complete safetensors file" in import_refused(model_copy, tmp_path / "save")


def test_a_tokenizer_with_more_tokens_than_the_model(
    model_folder: Path, model_copy: Path, write_checkpoint: Write, tmp_path: Path
) -> None:
    tokenizer = json.loads((model_copy / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["d"] = 101
    (model_copy / "tokenizer.json").write_text(json.dumps(tokenizer))
    message = "the tokenizer has 102 tokens, the model's vocab_size is 101: it belongs to another model"
    assert message in import_refused(model_copy, tmp_path / "save")
    save = write_checkpoint(model_folder, megatron_tensors(model_folder))
    shutil.copy(model_copy / "tokenizer.json", save / "iter_0000010" / "hf")
    assert message in export_refused(save, tmp_path / "out")


def test_a_tokenizer_other_than_that_of_training(model_folder: Path, write_checkpoint: Write, tmp_path: Path) -> None:
    identity = {"tokenizer_fingerprint": ChatTokenizer(model_folder).fingerprint}
    save = write_checkpoint(model_folder, megatron_tensors(model_folder), identity=identity)
    template = save / "iter_0000010" / "hf" / "chat_template.jinja"
    original = template.read_text()
    template.write_text(original + "!")
    assert f"the model was trained with {identity['tokenizer_fingerprint'][:12]}" in export_refused(
        save, tmp_path / "out"
    )
    template.write_text(original)
    export(save, tmp_path / "out")


def test_another_architecture(model_copy: Path, write_checkpoint: Write, tmp_path: Path) -> None:
    save = write_checkpoint(model_copy, megatron_tensors(model_copy))
    config = save / "iter_0000010" / "hf" / "config.json"
    edit_json(config, model_type="llama", architectures=["LlamaForCausalLM"])
    assert "model tensors that a llama does not have" in export_refused(save, tmp_path / "out")
    edit_json(config, model_type="mamba2")
    assert "mamba2" in export_refused(save, tmp_path / "out")
    edit_json(model_copy / "config.json", model_type="llama", architectures=["LlamaForCausalLM"])
    assert "not part of the model model.layers.0.self_attn.k_norm.weight" in import_refused(
        model_copy, tmp_path / "other"
    )
    edit_json(model_copy / "config.json", model_type="mamba2")
    with pytest.raises(ConfigError, match="mamba2"):
        import_model(model_copy, tmp_path / "other")


def test_existing_outputs(model_folder: Path, write_checkpoint: Write, tmp_path: Path) -> None:
    save = write_checkpoint(model_folder, megatron_tensors(model_folder))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(ConversionError, match="already exists"):
        export(save, tmp_path / "out")
    with pytest.raises(ConversionError, match="already holds checkpoints"):
        import_model(model_folder, save)
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"
    assert (save / "iter_0000010" / "complete.json").exists()


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A file system of 600 KB in the existing folder."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@contextlib.contextmanager
def small_files(folder: Path) -> Iterator[None]:
    """No file of this process may become larger than 600 KB, wherever it lies."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    ("limit", "reason"), [(small_disk, "No space left on device"), (small_files, "File too large")]
)
def test_no_space(
    limit: Callable[[Path], contextlib.AbstractContextManager[None]],
    reason: str,
    write_checkpoint: Write,
    tmp_path: Path,
) -> None:
    model = save_model(tmp_path / "model", intermediate_size=512)
    assert (model / "model.safetensors").stat().st_size > 1_000_000
    save, disk = write_checkpoint(model, megatron_tensors(model)), tmp_path / "disk"
    disk.mkdir()
    with limit(disk):
        message = export_refused(save, disk / "out")
        assert f"{disk / 'out'}: cannot be written: {reason}" in message
        message = import_refused(model, disk / "save")
        assert "cannot be written: " in message
        assert reason in message
        assert [path.name for path in disk.iterdir()] in ([], ["save"])
    export(save, disk / "out")
    import_model(model, disk / "save")
