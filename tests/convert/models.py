"""Tiny random models on disk, and ways to read and compare them that share no code with the package."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from megatron_sft.convert.mapping import Entry, entries
from megatron_sft.model.geometry import ModelGeometry

REPOSITORY = Path(__file__).parents[2]

CONFIG: dict[str, Any] = {
    "model_type": "qwen3",
    "architectures": ["Qwen3ForCausalLM"],
    "num_hidden_layers": 4,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 16,
    "vocab_size": 101,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "initializer_range": 0.3,
    "tie_word_embeddings": True,
    "eos_token_id": 4,
}
# Heads as wide as hidden size / heads: these configs name no width.
_NARROW = CONFIG | {"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": None}
# Without norms of queries and keys larger weights would make attention so sharp that it magnifies rounding.
_NARROW |= {"initializer_range": 0.15}
FAMILIES: dict[str, dict[str, Any]] = {
    "qwen3": CONFIG,
    "qwen2": _NARROW | {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]},
    "llama": _NARROW | {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "tie_word_embeddings": False},
}
INTERNLM2_CODE = {
    "auto_map": {
        "AutoConfig": "configuration_internlm2.InternLM2Config",
        "AutoModelForCausalLM": "modeling_internlm2.InternLM2ForCausalLM",
    }
}
WORDS = ["<pad>", "<|im_end|>", "<|endoftext|>", "a", "b", "c"]
TEMPLATE = "{% for m in messages %}{{ m['content'] }}{% endfor %}"


def save_model(
    folder: Path, *, family: str = "qwen3", dtype: torch.dtype = torch.float32, seed: int = 0, **config: Any
) -> Path:
    """A Hugging Face folder as transformers writes it, weights random (norms too), with tokenizer and template."""
    import tokenizers
    import transformers

    torch.manual_seed(seed)
    fields = {name: value for name, value in {**FAMILIES[family], **config}.items() if value is not None}
    settings = transformers.AutoConfig.for_model(**fields)
    model = transformers.AutoModelForCausalLM.from_config(settings, dtype=torch.float32)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.uniform_(0.5, 1.5)
            elif name.endswith("bias"):
                parameter.normal_(0.0, 0.5)
    model.to(dtype).save_pretrained(folder)
    model.generation_config = transformers.GenerationConfig(eos_token_id=3, temperature=0.6, do_sample=True)
    model.generation_config.save_pretrained(folder)
    core = tokenizers.Tokenizer(tokenizers.models.WordLevel({word: i for i, word in enumerate(WORDS)}, "<pad>"))
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token="<|im_end|>", pad_token="<pad>", chat_template=TEMPLATE
    )
    tokenizer.save_pretrained(folder)
    return folder


def save_as_internlm2(llama: Path, folder: Path, **config: Any) -> Path:
    """The model of a Llama folder in InternLM2's format: same arithmetic, other names, one matrix for q, k and v."""
    from safetensors.torch import save_file

    shutil.copytree(llama, folder)
    settings = json.loads((llama / "config.json").read_text())
    for name in ("rope_parameters", "attention_bias", "mlp_bias", "attention_dropout", "head_dim", "dtype"):
        settings.pop(name, None)
    own = INTERNLM2_CODE | {"model_type": "internlm2", "architectures": ["InternLM2ForCausalLM"], "bias": False}
    own |= {"rope_theta": 10000.0, "rope_scaling": {"type": "dynamic", "factor": 2.0}, "torch_dtype": "float32"}
    (folder / "config.json").write_text(json.dumps(settings | own | config))
    for name in ("configuration_internlm2.py", "modeling_internlm2.py"):
        (folder / name).write_text("raise RuntimeError('this code must not be run')\n")
    save_file(internlm2_tensors(read_weights(llama), settings), folder / "model.safetensors", {"format": "pt"})
    return folder


def internlm2_tensors(llama: dict[str, torch.Tensor], config: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Llama's tensors under InternLM2's names.

    `modeling_internlm2.py` of internlm/internlm2_5-20b takes the product with wqkv apart by
    rearrange("b q (h gs d) -> b q h gs d", gs=2 + heads per key-value head): the queries of key-value head h are its
    first gs - 2 blocks, the key is block gs - 2, the value block gs - 1. This is the way back.
    """
    names = {
        "model.embed_tokens": "model.tok_embeddings",
        "self_attn.o_proj": "attention.wo",
        "mlp.gate_proj": "feed_forward.w1",
        "mlp.up_proj": "feed_forward.w3",
        "mlp.down_proj": "feed_forward.w2",
        "input_layernorm": "attention_norm",
        "post_attention_layernorm": "ffn_norm",
        "lm_head": "output",
    }
    renamed = {}
    for name, tensor in llama.items():
        if ".k_proj." in name or ".v_proj." in name:
            continue
        if ".q_proj." in name:
            parts = [llama[name.replace("q_proj", part)] for part in ("q_proj", "k_proj", "v_proj")]
            tensor, name = fused(*parts, config), name.replace("self_attn.q_proj", "attention.wqkv")
        for old, new in names.items():
            name = name.replace(old, new)
        renamed[name] = tensor.contiguous()
    return renamed


def fused(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, config: dict[str, Any]) -> torch.Tensor:
    """wqkv [rows, hidden] of the three matrices, block by block."""
    heads, groups = config["num_attention_heads"], config["num_key_value_heads"]
    width, per_group = query.shape[0] // heads, heads // groups
    blocks = []
    for group in range(groups):
        heads_of_group = range(group * per_group, (group + 1) * per_group)
        blocks += [query[head * width : (head + 1) * width] for head in heads_of_group]
        blocks += [key[group * width : (group + 1) * width], value[group * width : (group + 1) * width]]
    return torch.cat(blocks)


def read_weights(folder: Path) -> dict[str, torch.Tensor]:
    """Every tensor of a folder, read by the safetensors library and not by the code under test."""
    from safetensors.torch import load_file

    return {name: tensor for path in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(path).items()}


def same_bytes(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    """Whether names, shapes, dtypes and bits agree."""
    assert left, "nothing to compare"
    return left.keys() == right.keys() and all(
        (tensor.dtype, tensor.shape) == (right[name].dtype, right[name].shape)
        and torch.equal(tensor.view(torch.uint8), right[name].view(torch.uint8))
        for name, tensor in left.items()
    )


def whole_tensor(entry: Entry, weights: dict[str, torch.Tensor], geometry: ModelGeometry, padded: int) -> torch.Tensor:
    """The Megatron tensor of an entry, built in the obvious way as a reference."""
    parts = [weights[name] for name, _ in entry.hf]
    if len(parts) == 3:
        groups = [part.reshape(geometry.num_query_groups, -1, *part.shape[1:]) for part in parts]
        return torch.cat(groups, dim=1).flatten(0, 1)
    whole = torch.cat(parts)
    if whole.shape[0] == geometry.vocab_size:
        whole = torch.nn.functional.pad(whole, (0, 0, 0, padded - whole.shape[0]), value=7.0)
    return whole


def megatron_tensors(folder: Path, padded: int = 128) -> dict[str, torch.Tensor]:
    """What a checkpoint of this model holds, a tensor per layer; padding rows hold 7 so that a leak is seen."""
    geometry, weights = ModelGeometry.from_hf_config(folder), read_weights(folder)
    return {entry.megatron_names[-1]: whole_tensor(entry, weights, geometry, padded) for entry in entries(geometry)}


def run_ranks(*arguments: Any, num_ranks: int) -> None:
    """Run tests.convert.ranks in `num_ranks` gloo processes."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY), "PYTHONWARNINGS": "ignore"}
    # Not as a script: Megatron-Core's saver starts a helper process per rank, which would import the script again.
    program = "import sys; from tests.convert.ranks import main; sys.exit(main())"
    command = [sys.executable, "-c", program, str(num_ranks), *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


def edit_json(path: Path, **values: Any) -> None:
    """Set top-level values of a JSON file; None removes one."""
    content = {**json.loads(path.read_text()), **values}
    path.write_text(json.dumps({name: value for name, value in content.items() if value is not None}))
