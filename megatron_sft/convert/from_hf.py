"""Write a Hugging Face model as a checkpoint of iteration 0, which the trainer and `to-hf` read."""

import tempfile
from collections.abc import Callable
from math import prod
from pathlib import Path

import numpy as np

from megatron_sft.convert import assets
from megatron_sft.convert.disk import writing
from megatron_sft.convert.dist_writer import OutTensor, write_checkpoint
from megatron_sft.convert.dtypes import Dtype, as_bytes, cast
from megatron_sft.convert.folder_checks import check_folder
from megatron_sft.convert.mapping import Entry, Layout, Piece, entries
from megatron_sft.convert.safetensors_folder import SafetensorsFolder
from megatron_sft.errors import ConversionError
from megatron_sft.files import removed_on_failure
from megatron_sft.model import checkpoint_dir
from megatron_sft.model.geometry import ModelGeometry


def import_model(model_dir: str | Path, output: str | Path, *, say: Callable[[str], None] = print) -> Path:
    """Write `output/iter_0000000` from a Hugging Face folder, in the folder's dtype; returns that path.

    Weights go from file to file in blocks of rows, so memory does not grow with the model. The checkpoint can be
    loaded with any tensor and pipeline parallel size.

    Raises:
        ConversionError: when the folder is not a complete model, its tokenizer has more tokens than the model, `output`
            holds checkpoints already, or it cannot be written. Nothing is left in `output` then.
        ConfigError: when the architecture is not supported.
    """
    model_dir, output = Path(model_dir), Path(output)
    if checkpoint_dir.list_complete(output):
        raise ConversionError(f"{output}: already holds checkpoints; name another output folder")
    geometry = ModelGeometry.from_hf_config(model_dir)
    with SafetensorsFolder(model_dir) as folder, tempfile.TemporaryDirectory() as collected:
        check_folder(folder, geometry)
        dtype = _common_dtype({info.dtype for info in folder.tensors.values()})
        say(f"importing {model_dir} ({geometry.num_layers} layers, {dtype.value}) to {output}")
        assets.collect(model_dir, Path(collected))
        assets.check_vocabulary(Path(collected), geometry)
        eos = assets.tokenizer_eos_id(Path(collected))
        run_state = {
            "iteration": 0,
            "consumed_samples": 0,
            "dtype": dtype.value,
            "stop_token_ids": [] if eos is None else [eos],
            "source": str(model_dir.resolve()),
        }
        partial = checkpoint_dir.incomplete_dir(output, 0)
        with removed_on_failure(partial), writing(output):
            write_checkpoint(partial, megatron_tensors(folder, geometry, dtype), geometry.num_layers)
            final = checkpoint_dir.finish(partial, run_state, Path(collected))
    say(f"done: {final}")
    return final


def megatron_tensors(folder: SafetensorsFolder, geometry: ModelGeometry, dtype: Dtype) -> list[OutTensor]:
    """Every tensor of the Megatron model, read from `folder` when it is written."""
    padded = geometry.padded_vocab_size(1)
    tensors = []
    for entry in entries(geometry):
        vocabulary = padded if entry.rule.layout is Layout.VOCABULARY else 0
        shape = entry.shape(1, vocabulary)
        fill = _rows(folder, entry, geometry, vocabulary, dtype)
        # Checkpoints have the last spelling: a norm belongs to the linear layer that follows it.
        tensors.append(OutTensor(entry.megatron_names[-1], shape, dtype, fill))
    return tensors


def _rows(
    folder: SafetensorsFolder, entry: Entry, geometry: ModelGeometry, padded: int, dtype: Dtype
) -> Callable[[int, memoryview], None]:
    """What fills memory with rows of the whole Megatron tensor, from a number on."""
    pieces = list(entry.pieces(geometry, rank=0, size=1, padded_vocab_size=padded))
    if entry.rule.layout is Layout.COLUMNS:
        # Whole, it is the same tensor: rows will do.
        pieces = [Piece(0, 0, entry.hf[0][1][0])]
    row_bytes = prod(entry.hf[0][1][1:]) * dtype.num_bytes

    def fill(start: int, view: memoryview) -> None:
        stop = start + len(view) // row_bytes
        offset = 0
        for piece in pieces:
            first, last = max(start, offset), min(stop, offset + piece.size)
            if first < last:
                part = view[(first - start) * row_bytes : (last - start) * row_bytes]
                if piece.source is None:
                    part[:] = bytes(len(part))
                else:
                    _read_rows(folder, entry.hf[piece.source][0], first + piece.start - offset, part, dtype)
            offset += piece.size

    return fill


def _read_rows(folder: SafetensorsFolder, name: str, start: int, view: memoryview, dtype: Dtype) -> None:
    """Fill memory with rows of a tensor of the folder, cast to `dtype`."""
    stored = folder.tensors[name].dtype
    if stored is dtype:
        folder.read_rows_into(view, name, start)
        return
    bits = np.empty(len(view) // dtype.num_bytes, stored.bits)
    folder.read_rows_into(as_bytes(bits), name, start)
    view[:] = as_bytes(cast(bits, stored, dtype))


def _common_dtype(dtypes: set[Dtype]) -> Dtype:
    """The one dtype, or float32, which holds each of several exactly."""
    return next(iter(dtypes)) if len(dtypes) == 1 else Dtype.FLOAT32
