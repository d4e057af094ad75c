"""A small random model with its tokenizer, and problems for it."""

import json
import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def random_model(tiny_tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Qwen3 folder with random weights, large enough in scale for its greedy answers to vary; iteration 40."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("random") / "step-40"
    shutil.copytree(tiny_tokenizer, folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.Qwen3Config(
        vocab_size=320,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,  # the smallest that vLLM has on CPU
        max_position_embeddings=256,
        initializer_range=0.3,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = transformers.Qwen3ForCausalLM(config)
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, tokenizer.pad_token_id]
    model.save_pretrained(folder)
    (folder / "megatron_sft.json").write_text('{"iteration": 40}')
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two tasks: addition with six problems, countdown with two."""
    folder = tmp_path / "data"
    folder.mkdir()
    additions = [(3, 5), (12, 9), (40, 2), (7, 7), (100, 1), (8, 64)]
    rows = [
        {
            "id": f"addition-{a}-{b}",
            "message": [{"role": "user", "content": f"Compute {a} + {b}."}],
            "answer": str(a + b),
        }
        for a, b in additions
    ]
    write_rows(folder / "addition.held_out.jsonl", rows)
    rows = [
        {"id": f"countdown-{n}", "prompt": f"Make {n} of 2 and 3.", "answer": {"numbers": [2, 3], "target": n}}
        for n in (5, 6)
    ]
    write_rows(folder / "countdown.held_out.jsonl", rows)
    return folder


def write_rows(path: Path, rows: list[dict]) -> None:
    """Write a JSON Lines file."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
