"""Other models than Qwen3 train as transformers' do, and documents beyond a model's rotary embedding are refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("megatron.core")

from megatron_sft.data.shards import ShardReader
from megatron_sft.errors import ConfigError
from megatron_sft.model.geometry import ModelGeometry
from megatron_sft.train import assets, start_up
from megatron_sft.train.options import TrainOptions
from tests.convert.models import save_as_internlm2
from tests.train.harness import BATCH
from tests.train.layout_runs import run_all
from tests.train.test_against_transformers import token_losses

pytestmark = pytest.mark.trainer

SHAPE = {
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 96,
    "vocab_size": 330,
    "max_position_embeddings": 512,
    "initializer_range": 0.1,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 16.0, "original_max_position_embeddings": 32}
MODELS = {
    "qwen2": {"model_type": "qwen2", "tie_word_embeddings": True},
    "qwen2 untied yarn": {"model_type": "qwen2", "tie_word_embeddings": False, "rope_parameters": YARN},
    "llama": {"model_type": "llama", "tie_word_embeddings": True, "rope_parameters": LLAMA3},
    "llama plain": {"model_type": "llama", "tie_word_embeddings": False},
}
TRAINED = ("qwen2", "qwen2 untied yarn", "llama", "internlm2")
LR = 1e-3
SIZES = {"seq_length": 320, "global_batch_size": BATCH, "train_iters": 1, "lr": LR}


def save_model(folder: Path, tokenizer: Path, config: dict) -> Path:
    """A random model with biases that are not zero, and the tokenizer of the shards."""
    import torch
    import transformers

    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.for_model(**SHAPE, **config))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0.0, 0.3)
    model.float().save_pretrained(folder)
    for path in tokenizer.iterdir():
        shutil.copy(path, folder)
    return folder


@pytest.fixture(scope="module")
def models(world, tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("families")
    saved = {name: save_model(folder / name, world.tokenizer, config) for name, config in MODELS.items()}
    return saved | {"internlm2": save_as_internlm2(saved["llama plain"], folder / "internlm2")}


@pytest.fixture(scope="module")
def runs(world, models, tmp_path_factory):
    """Two iterations of each on two tensor-parallel ranks, the layout that has most to get wrong."""
    options = {"train_iters": 2, "lr": LR, "tensor_model_parallel_size": 2, "sequence_parallel": True}
    jobs = {name: options | {"init_from": str(models[name])} for name in TRAINED}
    return run_all(world, tmp_path_factory.mktemp("runs"), jobs, 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_loss_and_gradients_are_those_of_transformers(name, runs, models, world):
    """The second iteration shows the first one's update, of the biases too."""
    expected = plain_loop(models["llama plain" if name == "internlm2" else name], world)
    records = runs[name]
    assert [record["iteration"] for record in records] == [1, 2]
    for record, (loss, norm) in zip(records, expected, strict=True):
        assert record["loss"] == pytest.approx(loss, rel=1e-5)
        assert record["grad_norm"] == pytest.approx(norm, rel=2e-5)


def plain_loop(folder, world) -> list[tuple[float, float]]:
    """Loss and gradient norm of two iterations, each sample alone."""
    import torch
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    matrices = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    vectors = [parameter for parameter in model.parameters() if parameter.ndim == 1]
    groups = [{"params": matrices, "weight_decay": 0.01}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=LR, betas=(0.9, 0.999), eps=1e-8)
    schedule = transformers.get_cosine_schedule_with_warmup(optimizer, 0, 2)
    reader = ShardReader(world.shards)
    history = []
    for first in (0, BATCH):
        losses = [token_losses(model, reader.sample(index)) for index in range(first, first + BATCH)]
        loss = torch.cat(losses).mean()
        loss.backward()
        norm = float(torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0))
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        history.append((float(loss.detach()), norm))
    return history


def test_checkpoints_carry_the_code_of_the_model(world, models, tmp_path):
    folder = models["internlm2"]
    options = TrainOptions(data=world.shards, save=tmp_path, init_from=folder, **SIZES)
    collected = assets.collect(options, ModelGeometry.from_hf_config(folder), tmp_path / "hf")
    names = [path.name for path in sorted(collected.glob("*.py"))]
    assert names == ["configuration_internlm2.py", "modeling_internlm2.py"]
    assert json.loads((collected / "config.json").read_text())["auto_map"]


def test_documents_beyond_dynamic_scaling_are_refused(world, models, tmp_path):
    reader = ShardReader(world.shards)
    longest = int(np.max(reader.lengths))
    config = json.loads((models["internlm2"] / "config.json").read_text())
    options = TrainOptions(data=world.shards, save=tmp_path, init_from=models["internlm2"], **SIZES)
    fits = ModelGeometry.from_hf_config(config | {"max_position_embeddings": longest})
    start_up.check_lengths(reader, options, fits)
    short = ModelGeometry.from_hf_config(config | {"max_position_embeddings": longest - 1})
    with pytest.raises(
        ConfigError, match=rf"dynamic.*max_position_embeddings={longest - 1}.*--max-length {longest - 1}"
    ):
        start_up.check_lengths(reader, options, short)
    scaled = config | {"max_position_embeddings": longest - 1, "rope_scaling": {"type": "linear", "factor": 2.0}}
    start_up.check_lengths(reader, options, ModelGeometry.from_hf_config(scaled))
