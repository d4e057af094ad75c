"""What the evaluation needs to know of a model folder before an engine starts."""

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from megatron_sft.data.chat import ChatTokenizer
from megatron_sft.errors import DataError

HASH_BLOCK_BYTES = 1 << 22
NOT_ARCHITECTURE = frozenset(
    ("_name_or_path", "transformers_version", "eos_token_id", "bos_token_id", "pad_token_id", "torch_dtype", "dtype")
)


@dataclass(frozen=True, kw_only=True)
class ModelFolder:
    """One checkpoint in Hugging Face form."""

    name: str
    """Unique among the models of a run: the folder's name, with parents where two are alike."""
    path: Path
    """Absolute path."""
    iteration: int | None
    """Optimizer step, from `megatron_sft.json`; None where there is no such file."""
    fingerprint: str
    """sha256 over weights, configuration, tokenizer and template: equal fingerprints generate alike."""
    architecture: str
    """sha256 over config.json but for what does not change the model's code: equal ones can share an engine."""
    max_position_embeddings: int
    """Context length in tokens."""
    kv_bytes_per_token: int
    """Size of the key-value cache for one token in float32."""
    tokenizer: ChatTokenizer
    """Renders and encodes prompts exactly as for training."""


def open_models(paths: tuple[Path, ...], base: Path | None = None) -> list[ModelFolder]:
    """Read every model folder; `base` comes first, as iteration 0, then `paths` in their order.

    Raises:
        DataError: for a folder given twice, or one without config.json, weights, tokenizer or template.
    """
    resolved = [path.resolve() for path in ([base] if base else []) + list(paths)]
    for path in resolved:
        if resolved.count(path) > 1:
            raise DataError(f"--model {path}: given twice")
    names = unique_names(resolved)
    models = [open_model(path, name) for path, name in zip(resolved, names, strict=True)]
    return [replace(models[0], iteration=0), *models[1:]] if base else models


def open_model(path: Path, name: str) -> ModelFolder:
    """Read one model folder."""
    config = _read_object(path / "config.json")
    weights = sorted(path.glob("*.safetensors"))
    if not weights:
        raise DataError(
            f"{path}: no *.safetensors: expected a model folder as tools/convert_checkpoint to-hf writes it"
        )
    tokenizer = ChatTokenizer(str(path))
    origin = path / "megatron_sft.json"
    iteration = _read_object(origin).get("iteration") if origin.exists() else None
    return ModelFolder(
        name=name,
        path=path,
        iteration=iteration,
        fingerprint=_fingerprint([path / "config.json", *weights], tokenizer),
        architecture=_architecture(config),
        max_position_embeddings=_positive_int(config, "max_position_embeddings", path),
        kv_bytes_per_token=_kv_bytes_per_token(config, path),
        tokenizer=tokenizer,
    )


def unique_names(paths: list[Path]) -> list[str]:
    """Name each path by as few of its last parts as make all names different: `a/hf`, `b/hf` become `a-hf`, `b-hf`."""
    for num_parts in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["-".join(part.strip("/") for part in path.parts[-num_parts:]) for path in paths]
        if len(set(names)) == len(names):
            break
    return names


def _fingerprint(files: list[Path], tokenizer: ChatTokenizer) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.name} {file.stat().st_size}\n".encode())
        with file.open("rb") as content:
            while block := content.read(HASH_BLOCK_BYTES):
                digest.update(block)
    digest.update(f"{tokenizer.fingerprint} {sorted(tokenizer.stop_ids)}".encode())
    return digest.hexdigest()


def _architecture(config: dict[str, Any]) -> str:
    told = {name: value for name, value in config.items() if name not in NOT_ARCHITECTURE}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _kv_bytes_per_token(config: dict[str, Any], path: Path) -> int:
    num_heads = _positive_int(config, "num_attention_heads", path)
    head_dim = config.get("head_dim") or _positive_int(config, "hidden_size", path) // num_heads
    num_groups = config.get("num_key_value_heads") or num_heads
    return 2 * _positive_int(config, "num_hidden_layers", path) * num_groups * head_dim * 4


def _positive_int(config: dict[str, Any], key: str, path: Path) -> int:
    value = config.get(key)
    if not isinstance(value, int) or value <= 0:
        raise DataError(f"{path / 'config.json'}: {key} is {value!r}, expected a positive integer")
    return value


def _read_object(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise DataError(f"{path} does not exist: expected a Hugging Face model folder")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: not JSON: {error}") from error
    if not isinstance(value, dict):
        raise DataError(f"{path}: expected a JSON object, found {type(value).__name__}")
    return value
