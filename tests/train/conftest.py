"""A small world on disk: tasks, a tokenizer trained on them, shards, and a tiny random Qwen3 to start from."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from megatron_sft.data import build_shards, make_tasks
from megatron_sft.data.make_tokenizer import MakeTokenizerConfig, make_tokenizer
from tests.train.harness import MAX_LENGTH, World, save_model, trainer_command, trainer_environment


@pytest.fixture(scope="session")
def world(tmp_path_factory) -> World:
    """Built once by the programs that users run."""
    folder = tmp_path_factory.mktemp("world")
    make_tasks.run(make_tasks.MakeTasksConfig(tasks="addition", num_train=64, num_held_out=4, output=folder / "tasks"))
    rows = folder / "tasks" / "addition.train.jsonl"
    make_tokenizer(MakeTokenizerConfig(inputs=(str(rows),), output=folder / "tokenizer", vocab_size=320))
    build_shards.main(
        build_shards.BuildShardsConfig(
            inputs=(str(rows),),
            output=folder / "shards",
            tokenizer=folder / "tokenizer",
            max_length=MAX_LENGTH,
            verify="math",
        )
    )
    return World(
        rows=rows,
        tokenizer=folder / "tokenizer",
        shards=folder / "shards",
        model=save_model(folder / "model", folder / "tokenizer"),
    )


@pytest.fixture
def train(world) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the trainer under torchrun; `check=False` returns a failure instead of raising."""

    def run(save: Path, *options: str, num_processes: int = 1, check: bool = True, flags=()):
        command = [*trainer_command(world, save, *options, num_processes=num_processes), *flags]
        result = subprocess.run(command, env=trainer_environment(), capture_output=True, text=True, timeout=600)
        if check and result.returncode:
            raise AssertionError(f"{' '.join(command)}\n{result.stdout[-3000:]}\n{result.stderr[-5000:]}")
        return result

    return run
