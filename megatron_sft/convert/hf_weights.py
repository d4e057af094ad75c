"""Fill a Megatron model, or the part of it that this rank holds, from a Hugging Face folder."""

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import megatron_sft.model.lean_megatron  # noqa: F401

import torch
from megatron.core.fp8_utils import is_float8tensor

from megatron_sft.convert.folder_checks import check_folder, some
from megatron_sft.convert.mapping import Entry, Layout, entries
from megatron_sft.convert.safetensors_folder import SafetensorsFolder
from megatron_sft.errors import ConversionError
from megatron_sft.model.geometry import ModelGeometry

_OUTPUT = "output_layer.weight"
_LAYERS = "decoder.layers."


@dataclass(frozen=True)
class LoadSummary:
    """What this rank loaded."""

    num_parameters: int
    """Parameter tensors filled."""
    num_elements: int
    """Their elements."""
    source_dtypes: tuple[torch.dtype, ...]
    """Dtypes in the folder; values were cast to the parameters' own."""


def load_hf_into(
    model: torch.nn.Module,
    geometry: ModelGeometry,
    hf_dir: str | Path,
    *,
    tp_rank: int | None = None,
    tp_size: int | None = None,
) -> LoadSummary:
    """Copy weights from `hf_dir` into `model`, each rank reading its own slices only.

    `model` is a GPTModel or a wrapper of one; layers are told apart by their own `layer_number`, so any pipeline stage
    can be filled. The tensor-parallel rank and size are Megatron-Core's unless given. Rows of the padded vocabulary
    are set to zero.

    Raises:
        ConversionError: unless the folder holds exactly the tensors that the geometry calls for, in their shapes, and
            every parameter of `model` has been filled once. Nothing is loaded when the folder is wrong.
    """
    tp_rank, tp_size = _tensor_parallel(tp_rank, tp_size)
    with SafetensorsFolder(Path(hf_dir)) as folder:
        check_folder(folder, geometry)
        by_name = _entries_by_name(geometry)
        parameters = _global_names(unwrap(model))
        unknown = sorted(parameters.keys() - by_name.keys())
        if unknown:
            raise ConversionError(f"the conversion has no rule for {some(unknown)}, parameters of the Megatron model")
        _check_local_coverage(parameters.keys(), by_name)
        for name, parameter in parameters.items():
            with _writable(parameter) as target:
                _fill(target, name, by_name[name], geometry, folder, tp_rank, tp_size)
        return LoadSummary(
            num_parameters=len(parameters),
            num_elements=sum(parameter.numel() for parameter in parameters.values()),
            source_dtypes=tuple(
                sorted({getattr(torch, info.dtype.value) for info in folder.tensors.values()}, key=str)
            ),
        )


def unwrap(model: torch.nn.Module) -> torch.nn.Module:
    """The model inside data-parallel and precision wrappers, which keep it as `module`."""
    while isinstance(inner := getattr(model, "module", None), torch.nn.Module):
        model = inner
    return model


def _tensor_parallel(rank: int | None, size: int | None) -> tuple[int, int]:
    if rank is not None and size is not None:
        return rank, size
    from megatron.core import parallel_state

    return (
        int(parallel_state.get_tensor_model_parallel_rank()),
        int(parallel_state.get_tensor_model_parallel_world_size()),
    )


def _entries_by_name(geometry: ModelGeometry) -> dict[str, Entry]:
    """Entries by every spelling of their Megatron tensor."""
    found = entries(geometry)
    by_name = {name: entry for entry in found for name in entry.megatron_names}
    if geometry.tie_word_embeddings:
        # The last pipeline stage has a copy of the embedding as its output layer.
        by_name[_OUTPUT] = found[0]
    return by_name


def _global_names(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """Parameters by name, layers numbered over the whole model instead of within the pipeline stage."""
    decoder: Any = model.decoder
    numbers = [layer.layer_number - 1 for layer in decoder.layers]
    named: dict[str, torch.nn.Parameter] = {}
    for name, parameter in model.named_parameters():
        if name.startswith(_LAYERS):
            local, rest = name.removeprefix(_LAYERS).split(".", 1)
            name = f"{_LAYERS}{numbers[int(local)]}.{rest}"
        assert name not in named, name
        named[name] = parameter
    return named


def _check_local_coverage(names: Iterable[str], by_name: dict[str, Entry]) -> None:
    """Every layer that has one parameter here must have all of them; two spellings of one tensor must not meet."""
    present: dict[int | None, list[int]] = {}
    for name in names:
        present.setdefault(by_name[name].layer, []).append(id(by_name[name]))
    for layer, seen in present.items():
        if len(seen) != len(set(seen)):
            raise ConversionError(f"two parameters of the Megatron model hold the same tensor (layer {layer})")
        wanted = {id(entry): entry for entry in by_name.values() if entry.layer == layer and layer is not None}
        absent = [entry.megatron_names[0] for key, entry in wanted.items() if key not in seen]
        if absent:
            raise ConversionError(f"the Megatron model has no parameter for {some(absent)}")


@contextlib.contextmanager
def _writable(parameter: torch.nn.Parameter) -> Iterator[torch.Tensor]:
    """A tensor to write the parameter's values into: itself, or for one kept in FP8 a bf16 copy that becomes it.

    TransformerEngine keeps the initial values of FP8 weights in high precision for the optimizer's main weights: these
    are to be the ones loaded, not the random ones that the weight was made with.
    """
    if not is_float8tensor(parameter):
        yield parameter.data
        return
    values = torch.empty(parameter.shape, dtype=torch.bfloat16, device=parameter.device)
    yield values
    with torch.no_grad():
        parameter.copy_(values)
        if hasattr(parameter, "get_high_precision_init_val"):
            parameter.get_high_precision_init_val().copy_(values)


def _fill(
    target: torch.Tensor,
    name: str,
    entry: Entry,
    geometry: ModelGeometry,
    folder: SafetensorsFolder,
    tp_rank: int,
    tp_size: int,
) -> None:
    layout = entry.rule.layout
    # How far the vocabulary is padded is the model builder's choice: the parameter tells.
    padded = max(target.shape[0] * tp_size, geometry.vocab_size) if layout is Layout.VOCABULARY else 0
    shape = entry.shape(tp_size, padded)
    if tuple(target.shape) != shape:
        raise ConversionError(f"parameter {name} has shape {tuple(target.shape)}; the geometry calls for {shape}")
    offset = 0
    for piece in entry.pieces(geometry, rank=tp_rank, size=tp_size, padded_vocab_size=padded):
        part = target.narrow(layout.dim, offset, piece.size)
        if piece.source is None:
            part.zero_()
        else:
            source = entry.hf[piece.source][0]
            part.copy_(folder.read(source, dim=layout.dim, start=piece.start, stop=piece.stop))
        offset += piece.size
    assert offset == target.shape[layout.dim], (name, offset)
