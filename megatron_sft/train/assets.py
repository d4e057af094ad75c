"""The small files that make a checkpoint usable by itself: model config, generation config, tokenizer, template."""

import shutil
from pathlib import Path

from megatron_sft.data.chat import ChatTokenizer
from megatron_sft.data.shards import ShardReader
from megatron_sft.errors import CheckpointError, ConfigError, DataError
from megatron_sft.files import write_json
from megatron_sft.model.code_files import own_code
from megatron_sft.model.geometry import ModelGeometry
from megatron_sft.train.options import TrainOptions

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.json.gz",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "vocab.json",
    "merges.txt",
)
"""What a Hugging Face tokenizer folder may hold; whatever of it is there goes along."""


def check_tokenizer(options: TrainOptions, reader: ShardReader, geometry: ModelGeometry) -> None:
    """Make sure that the tokenizer is the one the shards were made with and that the model has its vocabulary.

    Raises:
        ConfigError: when the vocabulary is larger than the model's.
        DataError: when the fingerprints differ.
    """
    folder = options.assets_folder
    tokenizer = ChatTokenizer(str(folder))
    made_with = reader.tokenizer_fingerprint
    if tokenizer.fingerprint != made_with:
        raise DataError(
            f"{reader.folder}: made with another tokenizer or chat template (fingerprint {made_with[:12]}) than "
            f"{folder} ({tokenizer.fingerprint[:12]}): name the right folder with --tokenizer, or "
            "build the shards again"
        )
    if tokenizer.vocab_size > geometry.vocab_size:
        raise ConfigError(
            f"{folder}: {tokenizer.vocab_size} tokens, but the model's vocab_size is {geometry.vocab_size}: "
            "the model cannot read every token of the data"
        )


def collect(options: TrainOptions, geometry: ModelGeometry, destination: Path) -> Path:
    """Copy the assets into a fresh folder, which every checkpoint then copies. Returns `destination`.

    Raises:
        CheckpointError: when there is no tokenizer to copy.
    """
    if destination.exists():
        shutil.rmtree(destination)
    destination.mkdir(parents=True)
    write_json(destination / "config.json", geometry.hf_config)
    source = options.assets_folder
    for folder in {source, options.init_from or source}:
        for name in own_code(folder):
            shutil.copy2(folder / name, destination / name)
    copied = [name for name in TOKENIZER_FILES if (source / name).is_file()]
    if not any(name.startswith("tokenizer.") for name in copied):
        raise CheckpointError(f"{source}: no tokenizer.json to put into checkpoints: name the folder with --tokenizer")
    for name in copied:
        shutil.copy2(source / name, destination / name)
    generation_config = (options.init_from or source) / "generation_config.json"
    if generation_config.is_file():
        shutil.copy2(generation_config, destination / generation_config.name)
    return destination
