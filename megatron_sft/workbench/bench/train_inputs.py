"""What `bench train` trains: a model with random weights and samples of random tokens, the same for every peer.

The lengths are those of reasoning traces. The tokens are drawn from the whole vocabulary, so that no loss is small and
a token that is predicted from the wrong place shows.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from megatron_sft.data.shards import FORMAT, FORMAT_VERSION, MANIFEST_FILE
from megatron_sft.errors import ConfigError
from megatron_sft.files import write_json
from megatron_sft.model.geometry import ModelGeometry
from megatron_sft.planning.known_models import geometry_of
from megatron_sft.workbench.bench.packing import trace_lengths
from megatron_sft.workbench.bench.peers import write_index

PROMPT_SHARE = 0.02
"""Of a sample's tokens, up to `LONGEST_PROMPT`: they are not trained."""
LONGEST_PROMPT = 100
_NUM_DRAWN = 100_000
TINY: Mapping[str, Any] = {
    "model_type": "qwen3",
    "num_hidden_layers": 2,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 330,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e6,
    "tie_word_embeddings": True,
    # Large enough for attention and position to be seen in the loss of random weights.
    "initializer_range": 0.1,
}
"""A geometry to try the benchmark out with, on any machine."""


def model_geometry(name: str) -> ModelGeometry:
    """The geometry `tiny`, or what `planning` knows by name or finds in a folder.

    Raises:
        ConfigError: for anything else.
    """
    if name == "tiny":
        return ModelGeometry.from_hf_config(TINY)
    try:
        return geometry_of(name)
    except ConfigError as error:
        raise ConfigError(f"{error}, tiny") from error


@dataclass(frozen=True, kw_only=True)
class Profile:
    """How long samples are."""

    mean: float
    """Tokens, of the distribution."""
    longest: int
    """Tokens; what is longer is drawn again."""
    sigma: float
    """Spread of the logarithm of the lengths."""


def batch_lengths(profile: Profile, batch_size: int, num_batches: int, seed: int) -> NDArray[np.int64]:
    """Lengths of the samples of some batches, int64[num_batches, batch_size].

    A batch has quantiles of the distribution at even distances from a random start: so few samples drawn at random
    would make the batches differ more than what is measured on them, and equal ones would spare a trainer the row
    shapes that are new in each iteration of a real run.
    """
    drawn = np.sort(
        trace_lengths(_NUM_DRAWN, sigma=profile.sigma, mean=profile.mean, longest=profile.longest, seed=seed)
    )
    random = np.random.default_rng(seed)
    shares = (np.arange(batch_size) + random.random((num_batches, 1))) / batch_size
    # A sample has a prompt and a response.
    lengths = np.maximum(drawn[(shares * len(drawn)).astype(np.int64)], 2)
    return random.permuted(lengths, axis=1)


def write_samples(folder: Path, lengths: NDArray[np.int64], *, vocab_size: int, seed: int) -> None:
    """Write a shard folder, docs/shard-format.md, of samples with a prompt and a response each.

    Args:
        folder: is made.
        lengths: int64[num_samples] tokens of each sample, at least 2.
        vocab_size: token ids are below it.
        seed: of the tokens.
    """
    folder.mkdir(parents=True, exist_ok=True)
    num_samples = len(lengths)
    prompts = np.clip((lengths * PROMPT_SHARE).astype(np.int64), 1, LONGEST_PROMPT)
    parts = np.stack([prompts, lengths - prompts], axis=1).flatten()
    tokens = np.random.default_rng(seed).integers(0, vocab_size, int(lengths.sum()), dtype=np.int32)
    (folder / "samples-00000.bin").write_bytes(tokens.tobytes())
    write_index(folder / "samples-00000.idx", parts.tolist(), sequences_per_document=2)
    trained = int((lengths - prompts).sum())
    counts = {"num_samples": num_samples, "tokens": int(lengths.sum()), "trained_tokens": trained}
    files = {
        path.name: {"size": path.stat().st_size, "sha256": "not computed: the tokens are made up"}
        for path in sorted(folder.glob("samples-*"))
    }
    manifest = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "fingerprint": "made up",
        "tokenizer_fingerprint": "made up",
        "stop_id": 0,
        "vocab_size": vocab_size,
        "shards": [{"prefix": "samples-00000", **counts}],
        "files": files,
        **counts,
    }
    write_json(folder / MANIFEST_FILE, manifest)


def write_config(folder: Path, geometry: ModelGeometry) -> None:
    """Write the `config.json` that `write_weights` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(geometry.hf_config), encoding="utf-8")


def write_weights(folder: Path, *, bf16: bool, device: str, seed: int) -> None:
    """Draw weights for the `config.json` in `folder` as transformers initialises a model, and save them beside it."""
    import torch
    import transformers

    torch.manual_seed(seed)
    config = transformers.AutoConfig.for_model(**json.loads((folder / "config.json").read_text(encoding="utf-8")))
    with torch.device(device):
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16 if bf16 else torch.float32)
    model.save_pretrained(folder)
