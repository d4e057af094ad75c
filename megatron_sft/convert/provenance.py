"""`provenance.json` of an exported model: which run, data and programs it comes from, and what its weights hash to."""

import platform
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from megatron_sft import __version__
from megatron_sft.convert.assets import read_json
from megatron_sft.convert.trial import TrialResult
from megatron_sft.errors import ConversionError
from megatron_sft.files import write_json
from megatron_sft.recipes.resolved import FILE_NAME as RESOLVED_OPTIONS

FILE = "provenance.json"
FORMAT_VERSION = 1
_PACKAGES = ("torch", "megatron-core", "transformers", "safetensors", "transformer-engine")


def describe(
    checkpoint: Path, run_state: Mapping[str, Any], checkpoint_fingerprint: str, tokenizer_fingerprint: str, dtype: str
) -> dict[str, Any]:
    """Where a checkpoint comes from; what it does not say of itself is null.

    Args:
        checkpoint: the folder of one iteration.
        run_state: its run state.
        checkpoint_fingerprint: hash of its tensor index and run state.
        tokenizer_fingerprint: of the tokenizer that goes along.
        dtype: of the exported weights.
    """
    identity = run_state.get("identity", {})
    resolved = checkpoint.parent / RESOLVED_OPTIONS
    return {
        "format_version": FORMAT_VERSION,
        "run": str(checkpoint.parent.resolve()),
        "iteration": int(run_state["iteration"]),
        "consumed_samples": run_state.get("consumed_samples"),
        "source_model": run_state.get("source"),
        "checkpoint_fingerprint": checkpoint_fingerprint,
        "data_fingerprint": identity.get("data_fingerprint"),
        "tokenizer_fingerprint": tokenizer_fingerprint,
        "options": run_state.get("options"),
        "resolved_options": resolved.read_text(encoding="utf-8") if resolved.is_file() else None,
        "dtype": dtype,
        "exported_with": _versions(),
    }


def write(folder: Path, origin: Mapping[str, Any], digests: Mapping[str, str]) -> None:
    """Write FOLDER/provenance.json: `origin`, and size and sha256 of each weights file."""
    weights = {name: {"bytes": (folder / name).stat().st_size, "sha256": digest} for name, digest in digests.items()}
    write_json(folder / FILE, {**origin, "weights": weights})


def add_trial(folder: Path, result: TrialResult) -> None:
    """Put what was generated from the export into its provenance, as `trial`."""
    found = read_json(folder / FILE)
    write_json(folder / FILE, {**found, "trial": asdict(result)})


def problem(folder: Path, expected: Mapping[str, Any]) -> str | None:
    """Why a folder is not the whole export of a checkpoint; None when it is. Contents of weights are not read.

    Args:
        folder: an existing folder.
        expected: what its provenance must say, by name.
    """
    try:
        found = read_json(folder / FILE)
    except ConversionError as error:
        return str(error)
    for name, value in expected.items():
        if found.get(name) != value:
            return f"{name} is {found.get(name)!r} in {FILE}, and {value!r} here"
    for name, facts in found.get("weights", {}).items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != facts["bytes"]:
            return f"{name} is missing or has not {facts['bytes']} bytes"
    return None if found.get("weights") else f"{FILE} names no weights"


def _versions() -> dict[str, str]:
    versions = {"megatron-sft": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions
