"""Which model folders a run evaluates: folders, patterns, folders of exports, and --steps."""

import glob
import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from evals.config import EvaluateConfig
from megatron_sft.data.chat import ChatTokenizer
from megatron_sft.errors import ConfigError, DataError
from megatron_sft.generation.model_folder import ModelFolder, open_models

CONFIG = "config.json"


def find_models(config: EvaluateConfig) -> list[ModelFolder]:
    """Open the models of --base and --model, in their order; exports of one folder by iteration.

    Raises:
        ConfigError: when --steps names an iteration that is not among the exports.
        DataError: for a pattern that matches nothing, and a folder that is neither a model nor holds any.
    """
    if config.endpoint is not None:
        return [_served(config)]
    paths = [path for entry in config.model for path in _folders(str(entry))]
    models = open_models(tuple(paths), config.base)
    base, exports = (models[:1], models[1:]) if config.base else ([], models)
    steps = config.step_numbers()
    if steps:
        found = {model.iteration for model in exports}
        for step in steps:
            if step not in found:
                known = ", ".join(str(iteration) for iteration in sorted(filter(None, found))) or "none"
                raise ConfigError(f"--steps: no export of iteration {step} among --model; there are {known}")
        exports = [model for model in exports if model.iteration in steps]
    return _named_apart([*base, *exports])


def _served(config: EvaluateConfig) -> ModelFolder:
    """Return what is known of a server's model: its name there and its tokenizer, which are its fingerprint too."""
    assert config.tokenizer is not None
    assert config.max_model_len is not None
    name, tokenizer = str(config.model[0]), ChatTokenizer(str(config.tokenizer))
    fingerprint = hashlib.sha256(f"{name}\0{tokenizer.fingerprint}".encode()).hexdigest()
    return ModelFolder(
        name=re.sub(r"[^A-Za-z0-9._-]|^\.+", "_", name),
        path=Path(name),
        iteration=None,
        fingerprint=fingerprint,
        architecture=fingerprint,
        max_position_embeddings=config.max_model_len,
        kv_bytes_per_token=0,
        tokenizer=tokenizer,
    )


def _folders(entry: str) -> list[Path]:
    if glob.has_magic(entry) and not Path(entry).exists():
        matches = sorted(Path(path) for path in glob.glob(entry) if Path(path, CONFIG).is_file())
        if not matches:
            raise DataError(f"--model {entry}: no folder with {CONFIG} matches")
        return matches
    path = Path(entry)
    if path.is_dir() and not (path / CONFIG).exists():
        inside = sorted(config.parent for config in path.glob(f"*/{CONFIG}"))
        if inside:
            return inside
    return [path]


def _named_apart(models: Sequence[ModelFolder]) -> list[ModelFolder]:
    names = [model.name for model in models]
    return [
        replace(model, name=str(model.path).strip("/").replace("/", "-")) if names.count(model.name) > 1 else model
        for model in models
    ]
