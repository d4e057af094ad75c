"""Whether a Hugging Face folder holds exactly the tensors that its config calls for."""

from megatron_sft.convert.mapping import architecture_map, entries
from megatron_sft.convert.safetensors_folder import SafetensorsFolder
from megatron_sft.errors import ConversionError
from megatron_sft.model.geometry import ModelGeometry

_ROWS = 8192
_DERIVED = ".rotary_emb.inv_freq"
"""Older Llama folders hold what follows from the config; transformers passes over it too."""


def check_folder(folder: SafetensorsFolder, geometry: ModelGeometry) -> None:
    """Compare the folder's tensors with those that the geometry calls for.

    A tied model may hold a second copy of its embedding as output layer, which must then be equal. Rotary frequencies
    are passed over.

    Raises:
        ConversionError: for missing, additional and misshapen tensors.
    """
    expected = dict(tensor for entry in entries(geometry) for tensor in entry.hf)
    _check_tied_copy(folder, geometry)
    copies = {_untied_output_name(geometry)} if geometry.tie_word_embeddings else set()
    missing = sorted(expected.keys() - folder.tensors.keys())
    derived = {name for name in folder.tensors if name.endswith(_DERIVED)}
    extra = sorted(folder.tensors.keys() - expected.keys() - copies - derived)
    if missing or extra:
        raise ConversionError(
            f"{folder.folder}: the weights are not those of its config.json ({geometry.model_type}, "
            f"{geometry.num_layers} layers): missing {some(missing)}; not part of the model {some(extra)}"
        )
    for name, shape in expected.items():
        found = folder.tensors[name]
        if found.shape != shape:
            raise ConversionError(
                f"{folder.folder / found.file}: {name} has shape {found.shape}; config.json calls for {shape}"
            )


def _untied_output_name(geometry: ModelGeometry) -> str:
    return architecture_map(geometry).untied_output.hf[0].name


def _check_tied_copy(folder: SafetensorsFolder, geometry: ModelGeometry) -> None:
    output = _untied_output_name(geometry)
    embedding = entries(geometry)[0].hf[0][0]
    if not geometry.tie_word_embeddings or output not in folder.tensors or embedding not in folder.tensors:
        return
    if not _are_equal(folder, output, embedding):
        raise ConversionError(
            f"{folder.folder}: config.json says tie_word_embeddings, but {output} differs from {embedding}; "
            "set tie_word_embeddings to false, or remove the tensor"
        )


def _are_equal(folder: SafetensorsFolder, left: str, right: str) -> bool:
    """Compare the bytes of two tensors some thousand rows at a time."""
    infos = folder.tensors[left], folder.tensors[right]
    if infos[0].shape != infos[1].shape:
        return False
    if infos[0].dtype is not infos[1].dtype:
        return False
    rows, row_bytes = infos[0].shape[0], infos[0].num_bytes // infos[0].shape[0]
    blocks = memoryview(bytearray(_ROWS * row_bytes)), memoryview(bytearray(_ROWS * row_bytes))
    for start in range(0, rows, _ROWS):
        count = min(_ROWS, rows - start) * row_bytes
        for name, block in zip((left, right), blocks, strict=True):
            folder.read_rows_into(block[:count], name, start)
        if blocks[0][:count] != blocks[1][:count]:
            return False
    return True


def some(names: list[str]) -> str:
    """Up to three names and how many more."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return (", ".join(names[:3]) or "nothing") + more
