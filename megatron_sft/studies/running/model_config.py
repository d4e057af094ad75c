"""`python -m megatron_sft.studies.running.model_config`: the config.json of a model that is to be pre-trained."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from megatron_sft import cli
from megatron_sft.errors import ConfigError, DataError
from megatron_sft.files import write_json


@dataclass(frozen=True, kw_only=True)
class ModelConfigConfig:
    """Write a Hugging Face config.json whose vocabulary is a tokenizer's."""

    config: str
    """The configuration as JSON, without vocab_size."""
    tokenizer: Path
    """Folder with tokenizer.json."""
    output: Path
    """File to write."""


def main(config: ModelConfigConfig) -> None:
    """Write the file.

    Raises:
        ConfigError: when the configuration is no JSON object, or has a vocabulary of its own.
        DataError: when there is no tokenizer.
    """
    try:
        values: Any = json.loads(config.config)
    except ValueError as error:
        raise ConfigError(f"--config {config.config[:60]}: not JSON: {error}") from error
    if not isinstance(values, dict) or "vocab_size" in values:
        raise ConfigError(f"--config {config.config[:60]}: expected names and values, without vocab_size")
    file = config.tokenizer / "tokenizer.json"
    if not file.is_file():
        raise DataError(f"--tokenizer {config.tokenizer}: no tokenizer.json there; tools/make_tokenizer makes one")
    size = Tokenizer.from_file(str(file)).get_vocab_size(with_added_tokens=True)
    config.output.parent.mkdir(parents=True, exist_ok=True)
    write_json(config.output, values | {"vocab_size": size})


if __name__ == "__main__":
    sys.exit(cli.run(ModelConfigConfig, main, prog="model_config"))
