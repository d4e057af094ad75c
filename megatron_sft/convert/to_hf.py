"""Export a checkpoint as a Hugging Face model folder, complete and compared, or not at all.

The checkpoint is read tensor by tensor; no model is built. Everything is written into a hidden folder beside the
output, synced, opened again, compared with what was read from the checkpoint, and renamed last.
"""

import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from megatron_sft import __version__
from megatron_sft.convert import assets, provenance, trial
from megatron_sft.convert.disk import writing
from megatron_sft.convert.dist_checkpoint import DistCheckpoint, StoredTensor
from megatron_sft.convert.dtypes import Dtype, as_bytes, cast
from megatron_sft.convert.mapping import Entry, Layout, Piece, architecture_map, entries
from megatron_sft.convert.safetensors_writer import Fill, plan_files, write_tensors
from megatron_sft.convert.verify import open_with_transformers, verify_export
from megatron_sft.errors import ConversionError
from megatron_sft.files import removed_on_failure, sync_directory, sync_tree, write_json
from megatron_sft.model import checkpoint_dir
from megatron_sft.model.geometry import ModelGeometry

MAX_FILE_BYTES = 5_000_000_000
"""Data in one safetensors file; a larger model is spread over several with an index."""

EXPORT_INFO = "megatron_sft.json"
EXPORT_FORMAT_VERSION = 1


@dataclass(frozen=True)
class ExportSummary:
    """What was exported."""

    output: Path
    iteration: int
    num_tensors: int
    num_bytes: int
    """Of the weights."""
    num_files: int
    """Safetensors files."""
    dtype: Dtype


def export(
    checkpoint: str | Path,
    output: str | Path,
    iteration: int | None = None,
    *,
    dtype: Dtype | None = None,
    max_file_bytes: int = MAX_FILE_BYTES,
    try_it: trial.Trial = "auto",
    say: Callable[[str], None] = print,
) -> ExportSummary:
    """Write the checkpoint as a Hugging Face folder that transformers and vLLM open.

    Args:
        checkpoint: a trainer's save folder, or one iteration in it.
        output: the folder to make; it must not exist, or be empty.
        iteration: which one of a save folder; the newest complete one by default.
        dtype: cast the weights to it; by default they keep the checkpoint's.
        max_file_bytes: data in one safetensors file.
        try_it: whether transformers is to open the export and to generate a few tokens from it: `auto`, if the weights
            have at most `trial.AUTO_BYTES`. An architecture whose code comes with the model is never run.
        say: receives one line per step.

    Raises:
        CheckpointError: when there is no such complete checkpoint.
        ConversionError: when a tensor is missing, additional, misshapen or unreadable, an asset is missing, or the
            written folder does not compare equal, the tokenizer is not the one of training, or the disk is full.
            Nothing is left at `output` then.
    """
    folder = checkpoint_dir.resolve(Path(checkpoint), iteration)
    output = Path(output)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ConversionError(f"{output}: already exists; remove it or name another output folder")
    source = _Source(folder, dtype)
    say(f"exporting {folder} ({len(source.tensors)} tensors, {source.dtype.value}) to {output}")
    partial = output.parent / f".{output.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)  # left by an export that was killed
    plan = plan_files(source.tensors, max_file_bytes)
    with writing(output), removed_on_failure(partial):
        partial.mkdir(parents=True)
        digests = write_tensors(partial, plan, _progress(source.read_all(), "writing", len(plan)))
        source.write_assets(partial, digests)
        sync_tree(partial)
        say("opening the export and comparing what is on the disk with what was read from the checkpoint")
        verify_export(partial, source.geometry, plan, digests)
        num_bytes = sum(info.num_bytes for info in plan)
        if trial.is_wanted(try_it, num_bytes) and architecture_map(source.geometry).is_in_transformers:
            open_with_transformers(partial)
            provenance.add_trial(partial, trial.generate(partial))
        elif try_it != "never":
            say(f"nothing is generated from it: {_why_not_tried(source.geometry, num_bytes)}")
        partial.rename(output)
        sync_directory(output.parent)
    summary = ExportSummary(
        output=output,
        iteration=source.iteration,
        num_tensors=len(plan),
        num_bytes=num_bytes,
        num_files=len({info.file for info in plan}),
        dtype=source.dtype,
    )
    say(
        f"done: {summary.num_tensors} tensors, {summary.num_bytes / 1e6:.1f} MB in {summary.num_files} file(s), "
        f"equal to the checkpoint of iteration {summary.iteration}"
    )
    return summary


def _why_not_tried(geometry: ModelGeometry, num_bytes: int) -> str:
    if not architecture_map(geometry).is_in_transformers:
        return f"the code of {geometry.model_type} comes with the model, and is not run"
    return f"{num_bytes / 1e9:.1f} GB of weights would be in memory (--trial always does it)"


class _Source:
    """A checkpoint seen as a Hugging Face model."""

    def __init__(self, folder: Path, dtype: Dtype | None) -> None:
        self.folder = folder
        self.assets = folder / checkpoint_dir.HF_ASSETS
        self.run_state = checkpoint_dir.read_run_state(folder)
        self.iteration = int(self.run_state["iteration"])
        self.geometry = ModelGeometry.from_hf_config(self.assets)
        trained_with = self.run_state.get("identity", {}).get("tokenizer_fingerprint")
        self.tokenizer_fingerprint = assets.check_vocabulary(self.assets, self.geometry, trained_with)
        self._checkpoint = DistCheckpoint(folder)
        self._cast = dtype
        self._stored = _locate_all(self._checkpoint, self.geometry)
        self.tensors = [
            (name, shape, dtype or stored.dtype) for entry, stored in self._stored for name, shape in entry.hf
        ]
        # Norms may be stored wider than matrices; the config names the dtype of the matrices.
        self.dtype = self.tensors[0][2]

    def read_all(self) -> Iterator[Fill]:
        """What gives the bytes of every Hugging Face tensor, in the order of `tensors`; each to be read to its end."""
        for entry, stored in self._stored:
            target = self._cast or stored.dtype
            if target is stored.dtype and _is_in_order(entry):
                reader = self._checkpoint.open(stored)
                for _ in entry.hf:
                    yield reader.fill
                # Rows of the padded vocabulary: their chunk has one checksum with the others.
                reader.skip_rest()
                continue
            whole = cast(self._checkpoint.read(stored), stored.dtype, target)
            for part in split(entry, whole, self.geometry):
                yield _from_memory(part)

    def write_assets(self, output: Path, digests: Mapping[str, str]) -> None:
        """Write everything but the weights, whose sha256 are `digests`."""
        stop_token_ids = self.run_state.get("stop_token_ids", [])
        generation = assets.export_generation_config(self.assets, stop_token_ids, self.geometry.vocab_size)
        write_json(output / assets.CONFIG, assets.export_config(self.geometry, self.dtype))
        write_json(output / assets.GENERATION_CONFIG, generation)
        assets.copy_tokenizer(self.assets, output)
        write_json(output / EXPORT_INFO, self._info())
        fingerprint, tokenizer = checkpoint_fingerprint(self.folder), self.tokenizer_fingerprint
        origin = provenance.describe(self.folder, self.run_state, fingerprint, tokenizer, self.dtype.value)
        provenance.write(output, origin, digests)

    def _info(self) -> dict[str, Any]:
        return {
            "format_version": EXPORT_FORMAT_VERSION,
            "iteration": self.iteration,
            "consumed_samples": self.run_state.get("consumed_samples"),
            "source": str(self.folder.resolve()),
            "source_fingerprint": checkpoint_fingerprint(self.folder),
            "stop_token_ids": self.run_state.get("stop_token_ids", []),
            "dtype": self.dtype.value,
            "megatron_sft_version": __version__,
        }


def _is_in_order(entry: Entry) -> bool:
    """Whether the rows of the Megatron tensor are those of its Hugging Face tensors, one after the other."""
    return entry.rule.layout is not Layout.QUERY_GROUPS or len(entry.hf) == 1


def split(entry: Entry, whole: NDArray[Any], geometry: ModelGeometry) -> Iterator[NDArray[Any]]:
    """Take a whole Megatron tensor apart into its Hugging Face tensors; rows of the padded vocabulary are dropped."""
    places: list[list[tuple[int, Piece]]] = [[] for _ in entry.hf]
    dim, offset = entry.rule.layout.dim, 0
    for piece in entry.pieces(geometry, rank=0, size=1, padded_vocab_size=whole.shape[0]):
        if piece.source is not None:
            places[piece.source].append((offset, piece))
        offset += piece.size
    assert offset == whole.shape[dim], entry.megatron_names
    for (_, shape), found in zip(entry.hf, places, strict=True):
        if entry.rule.layout is Layout.COLUMNS:
            yield whole
            continue
        part = np.empty(shape, whole.dtype)
        for start, piece in found:
            part[piece.start : piece.stop] = whole[start : start + piece.size]
        yield part


def _from_memory(array: NDArray[Any]) -> Fill:
    content = as_bytes(array)

    def fill(view: memoryview) -> None:
        nonlocal content
        view[:], content = content[: len(view)], content[len(view) :]

    return fill


def _locate_all(checkpoint: DistCheckpoint, geometry: ModelGeometry) -> list[tuple[Entry, StoredTensor]]:
    """Every entry with its place in the checkpoint; refuses tensors that are missing, additional or misshapen."""
    located = []
    for entry in entries(geometry):
        stored = checkpoint.locate(entry.megatron_names, geometry.num_layers)
        padded = max(stored.shape[0], geometry.vocab_size) if entry.rule.layout is Layout.VOCABULARY else 0
        expected = entry.shape(1, padded)
        if stored.shape != expected:
            raise ConversionError(
                f"{checkpoint.folder}: {stored.keys[0]} has shape {stored.shape}; config.json calls for {expected}"
            )
        located.append((entry, stored))
    extra = sorted(checkpoint.model_keys() - {key for _, stored in located for key in stored.keys})
    if extra:
        raise ConversionError(
            f"{checkpoint.folder}: {len(extra)} model tensors that a {geometry.model_type} does not have, such as "
            f"{extra[0]}; they would be lost"
        )
    return located


def checkpoint_fingerprint(folder: Path) -> str:
    """Hash of what identifies the checkpoint: its tensor index and its run state."""
    digest = hashlib.sha256()
    for name in (".metadata", checkpoint_dir.RUN_STATE):
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()


def _progress(tensors: Iterator[Fill], label: str, count: int) -> Iterator[Fill]:
    """Show a bar on a terminal, nothing elsewhere."""
    yield from tqdm(tensors, desc=label, total=count, unit="tensor", disable=None)
