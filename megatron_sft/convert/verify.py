"""Open an exported folder again, and compare it with the checkpoint.

With transformers too, where a few tokens are to be generated from it: importing it takes as long as writing gigabytes.
An architecture whose code comes with the model (InternLM2) is never opened with transformers: that would run the code.
The tables of names of the others are held against transformers' models by the tests.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from megatron_sft.convert import assets
from megatron_sft.convert.disk import sha256_on_disk
from megatron_sft.convert.mapping import entries
from megatron_sft.convert.safetensors_folder import SafetensorsFolder, TensorInfo
from megatron_sft.errors import ConversionError
from megatron_sft.model.geometry import ModelGeometry


def verify_export(
    folder: Path, geometry: ModelGeometry, plan: Sequence[TensorInfo], digests: Mapping[str, str]
) -> None:
    """Check that `folder` has the model's tensors and equals the checkpoint byte for byte.

    Args:
        folder: the exported folder.
        geometry: the model's geometry.
        plan: every tensor that should have been written.
        digests: sha256 (hex) by file of the bytes that were read from the checkpoint and given to be written.

    Raises:
        ConversionError: at the first difference.
    """
    found = ModelGeometry.from_hf_config(folder)
    if found != geometry:
        raise ConversionError(f"{folder / assets.CONFIG}: does not describe the checkpoint's geometry")
    with SafetensorsFolder(folder) as written:
        shapes = {info.name: info.shape for info in written.tensors.values()}
        compare_shapes(folder, shapes, dict(tensor for entry in entries(found) for tensor in entry.hf), "the model")
        if sorted(written.tensors.values(), key=str) != sorted(plan, key=str):
            raise ConversionError(f"{folder}: names, shapes, dtypes or files of the tensors are not those planned")
    _check_stop_token(folder, assets.tokenizer_eos_id(folder), assets.read_json(folder / assets.GENERATION_CONFIG))
    for name, digest in digests.items():
        if sha256_on_disk(folder / name) != digest:
            raise ConversionError(
                f"{folder / name}: differs on the disk from what was read from the checkpoint and written: "
                "see to the disk, then export again"
            )


def open_with_transformers(folder: Path) -> None:
    """Check that transformers finds its own model's tensors, every stop id and the chat template in the folder.

    Raises:
        ConversionError: at the first difference.
    """
    import transformers

    with SafetensorsFolder(folder) as written:
        shapes = {info.name: info.shape for info in written.tensors.values()}
    compare_shapes(folder, shapes, transformers_shapes(folder), "transformers' model")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    generation = transformers.GenerationConfig.from_pretrained(folder, local_files_only=True)
    _check_stop_token(folder, tokenizer.eos_token_id, generation.to_dict())
    if not tokenizer.chat_template:
        raise ConversionError(f"{folder}: transformers finds no chat template in the exported tokenizer")


def compare_shapes(
    folder: Path, written: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]], whose: str
) -> None:
    """Compare names and shapes.

    Raises:
        ConversionError: when they differ.
    """
    wrong = sorted(name for name in wanted.keys() | written.keys() if wanted.get(name) != written.get(name))
    if wrong:
        raise ConversionError(
            f"{folder}: {len(wrong)} tensors are not as {whose} has them, such as {wrong[0]}: "
            f"exported {written.get(wrong[0])}, expected {wanted.get(wrong[0])}"
        )


def transformers_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors that transformers' model for this config has; a tied tensor counts once."""
    import torch
    import transformers

    config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)
    model.tie_weights()
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}


def _check_stop_token(folder: Path, eos_token_id: int | None, generation: Mapping[str, Any]) -> None:
    if eos_token_id is not None and eos_token_id not in generation["eos_token_id"]:
        raise ConversionError(
            f"{folder / assets.GENERATION_CONFIG}: eos_token_id {generation['eos_token_id']} lacks the tokenizer's "
            f"{eos_token_id}"
        )
