"""The small files of a Hugging Face model folder: config, generation config, tokenizer, chat template, own code."""

import gzip
import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from megatron_sft._native import NativeError
from megatron_sft.convert.dtypes import Dtype
from megatron_sft.convert.mapping import architecture_map
from megatron_sft.data.chat import ChatTokenizer
from megatron_sft.errors import ConversionError
from megatron_sft.model.code_files import own_code
from megatron_sft.model.geometry import ModelGeometry

CONFIG = "config.json"
GENERATION_CONFIG = "generation_config.json"
TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
SENTENCEPIECE = "tokenizer.model"
CHAT_TEMPLATE = "chat_template.jinja"
TOKENIZER_FILES = (
    TOKENIZER,
    TOKENIZER_CONFIG,
    CHAT_TEMPLATE,
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    SENTENCEPIECE,
)
"""Everything that transformers or vLLM may read to make the tokenizer; each is copied where the source has it."""


def collect(source: Path, target: Path) -> None:
    """Copy config, generation config and tokenizer of a model folder into the existing folder `target`.

    Raises:
        ConversionError: unless the tokenizer can be used: tokenizer.json (or .gz) or tokenizer.model,
            tokenizer_config.json and a chat template are there.
    """
    for name in (CONFIG, GENERATION_CONFIG):
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)
    copy_tokenizer(source, target)


def copy_tokenizer(source: Path, target: Path) -> None:
    """Copy the tokenizer's files and the folder's own code; raises as `collect` does."""
    for name in (*TOKENIZER_FILES, *own_code(source)):
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)
    packed = source / f"{TOKENIZER}.gz"
    if not (target / TOKENIZER).exists() and packed.is_file():
        (target / TOKENIZER).write_bytes(gzip.decompress(packed.read_bytes()))
    needed = TOKENIZER_CONFIG if (target / SENTENCEPIECE).exists() else TOKENIZER
    for name in (needed, TOKENIZER_CONFIG):
        if not (target / name).exists():
            raise ConversionError(f"{source / name}: missing; without it the model cannot be served")
    if not (target / CHAT_TEMPLATE).exists() and not read_json(target / TOKENIZER_CONFIG).get("chat_template"):
        raise ConversionError(
            f"{source}: no chat template: neither {CHAT_TEMPLATE} nor chat_template in {TOKENIZER_CONFIG}; "
            "add the template that the model was trained with"
        )


def check_vocabulary(folder: Path, geometry: ModelGeometry, fingerprint: str | None = None) -> str:
    """Compare the tokenizer of a folder with the model, and with the tokenizer that the model was trained with.

    Args:
        folder: a folder with a tokenizer and its chat template.
        geometry: the model's geometry.
        fingerprint: that of the tokenizer in training, where it is known.

    Returns:
        The tokenizer's fingerprint.

    Raises:
        ConversionError: when it has ids that are no rows of the embedding, or another fingerprint, or is none that the
            data layer can read.
    """
    try:
        tokenizer = ChatTokenizer(folder)
    except NativeError as error:
        raise ConversionError(str(error)) from error
    if tokenizer.vocab_size > geometry.vocab_size:
        raise ConversionError(
            f"{folder}: the tokenizer has {tokenizer.vocab_size} tokens, the model's vocab_size is "
            f"{geometry.vocab_size}: it belongs to another model"
        )
    if fingerprint is not None and tokenizer.fingerprint != fingerprint:
        raise ConversionError(
            f"{folder}: fingerprint {tokenizer.fingerprint[:12]} of tokenizer and chat template; the model was trained "
            f"with {fingerprint[:12]}: put back the files that training copied there"
        )
    return tokenizer.fingerprint


def export_config(geometry: ModelGeometry, dtype: Dtype) -> dict[str, Any]:
    """The original config with the dtype of the exported weights, and `architectures`, which vLLM needs."""
    config = dict(geometry.hf_config)
    spellings = [name for name in ("dtype", "torch_dtype") if name in config] or ["torch_dtype"]
    for name in spellings:
        config[name] = dtype.value
    if not config.get("architectures"):
        config["architectures"] = [architecture_map(geometry).hf_architecture]
    return config


def export_generation_config(source: Path, stop_token_ids: Iterable[int], vocab_size: int) -> dict[str, Any]:
    """The original generation config with every stop id: its own, the config's, the tokenizer's and the trained ones.

    Args:
        source: folder with the original files.
        stop_token_ids: ids that training appended to responses.
        vocab_size: ids must lie below it.

    Raises:
        ConversionError: when there is no stop id at all, or one that is no row of the embedding.
    """
    original = read_json(source / GENERATION_CONFIG) if (source / GENERATION_CONFIG).exists() else {}
    ids: list[int] = []
    for found in (
        original.get("eos_token_id"),
        list(stop_token_ids),
        tokenizer_eos_id(source),
        read_json(source / CONFIG).get("eos_token_id"),
    ):
        ids += found if isinstance(found, list) else [] if found is None else [found]
    ids = list(dict.fromkeys(ids))
    if not ids or not all(isinstance(token, int) and 0 <= token < vocab_size for token in ids):
        raise ConversionError(
            f"{source}: stop ids {ids} (of generation config, training, tokenizer and config); at least one is needed, "
            f"each from 0 to {vocab_size - 1}: set eos_token in {TOKENIZER_CONFIG}"
        )
    # A mark with which transformers may derive the ids from config.json again, dropping the others.
    original.pop("_from_model_config", None)
    return {**original, "eos_token_id": ids}


def tokenizer_eos_id(folder: Path) -> int | None:
    """Id of the tokenizer's eos token, or None when it names none.

    Raises:
        ConversionError: when the token it names is not in tokenizer.json.
        NativeError: likewise for tokenizer.json.gz or tokenizer.model, in a folder without tokenizer.json.
    """
    token = read_json(folder / TOKENIZER_CONFIG).get("eos_token")
    if isinstance(token, Mapping):
        token = token.get("content")
    if token is None:
        return None
    others = [name for name in (f"{TOKENIZER}.gz", SENTENCEPIECE) if (folder / name).exists()]
    if others and not (folder / TOKENIZER).exists():
        return ChatTokenizer(folder).eos_id
    tokenizer = read_json(folder / TOKENIZER)
    for added in tokenizer.get("added_tokens") or []:
        if added.get("content") == token:
            return int(added["id"])
    vocab = (tokenizer.get("model") or {}).get("vocab")
    if isinstance(vocab, Mapping) and token in vocab:
        return int(vocab[token])
    raise ConversionError(f"{folder / TOKENIZER}: eos_token {token!r} of {TOKENIZER_CONFIG} is not in the vocabulary")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ConversionError: when the file is missing or something else.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConversionError(f"{path}: cannot read it as JSON: {error}") from error
    if not isinstance(value, dict):
        raise ConversionError(f"{path}: expected a JSON object, found {type(value).__name__}")
    return value
