"""What the trainer's tests share: the small world's paths, a tiny model, and the command line of a run."""

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
MAX_LENGTH = 160
BATCH = 8
TRAINER = REPOSITORY / "megatron_sft" / "pretrain_sft.py"


@dataclass(frozen=True)
class World:
    """Paths of what the tests share."""

    rows: Path
    tokenizer: Path
    shards: Path
    model: Path


def save_model(folder: Path, tokenizer: Path, **changes: int) -> Path:
    """A random Qwen3 of 4 layers as transformers writes it, with the tokenizer beside it; `changes` in its config."""
    import torch
    import transformers

    torch.manual_seed(0)
    values = {
        "hidden_size": 64,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "intermediate_size": 96,
        "vocab_size": 330,
        "max_position_embeddings": 512,
        "tie_word_embeddings": True,
        "initializer_range": 0.1,
    }
    config = transformers.Qwen3Config(**{**values, **changes})
    transformers.Qwen3ForCausalLM(config).save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(tokenizer).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        if (tokenizer / name).exists():
            (folder / name).write_bytes((tokenizer / name).read_bytes())
    return folder


def trainer_command(world: World, save: Path, *options: str, num_processes: int = 1) -> list[str]:
    """The command line of a run; later options win over the defaults here."""
    defaults = {
        "--data": str(world.shards),
        "--init-from": str(world.model),
        "--save": str(save),
        "--global-batch-size": str(BATCH),
        "--seq-length": "320",
        "--train-iters": "2",
        "--lr": "1e-3",
    }
    given = dict(zip(options[::2], options[1::2], strict=True))
    merged = [word for pair in {**defaults, **given}.items() for word in pair]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(num_processes)]
    # An own port, so that two runs on one machine do not meet.
    return [*launcher, "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", str(TRAINER), *merged]


def trainer_environment() -> dict[str, str]:
    """One thread per process, the repository importable, no warnings of other packages."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY), "PYTHONWARNINGS": "ignore"}


def read_metrics(save: Path) -> list[dict]:
    """The records of a run."""
    return [json.loads(line) for line in (save / "metrics.jsonl").read_text().splitlines()]
