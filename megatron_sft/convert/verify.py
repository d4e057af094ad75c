"""Open an exported folder as its users will, and compare it with the checkpoint.

An architecture whose code comes with the model (InternLM2) is not opened with transformers: that would run the code.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from megatron_sft.convert import assets
from megatron_sft.convert.disk import sha256_on_disk
from megatron_sft.convert.safetensors_folder import SafetensorsFolder, TensorInfo
from megatron_sft.data.chat import ChatTokenizer
from megatron_sft.errors import ConversionError
from megatron_sft.model.geometry import ModelGeometry


def verify_export(
    folder: Path, geometry: ModelGeometry, plan: Sequence[TensorInfo], digests: Mapping[str, str]
) -> None:
    """Check that `folder` is what transformers expects of this config and equals the checkpoint byte for byte.

    Args:
        folder: the exported folder.
        geometry: the model's geometry.
        plan: every tensor that should have been written.
        digests: sha256 (hex) by file of the bytes that were read from the checkpoint and given to be written.

    Raises:
        ConversionError: at the first difference.
    """
    known = is_known_to_transformers(geometry)
    with SafetensorsFolder(folder) as written:
        shapes = {info.name: info.shape for info in written.tensors.values()}
        if known:
            _compare_shapes(folder, shapes)
        if sorted(written.tensors.values(), key=str) != sorted(plan, key=str):
            raise ConversionError(f"{folder}: names, shapes, dtypes or files of the tensors are not those planned")
    for name, digest in digests.items():
        if sha256_on_disk(folder / name) != digest:
            raise ConversionError(
                f"{folder / name}: differs on the disk from what was read from the checkpoint and written: "
                "see to the disk, then export again"
            )
    if ModelGeometry.from_hf_config(folder) != geometry:
        raise ConversionError(f"{folder / assets.CONFIG}: does not describe the checkpoint's geometry")
    if known:
        _open_with_transformers(folder)
    else:
        _check_stop_token(folder, ChatTokenizer(folder).eos_id)


def _compare_shapes(folder: Path, written: dict[str, tuple[int, ...]]) -> None:
    """Compare names and shapes with those of the model class that transformers has for the config."""
    wanted = transformers_shapes(folder)
    wrong = sorted(name for name in wanted.keys() | written.keys() if wanted.get(name) != written.get(name))
    if wrong:
        raise ConversionError(
            f"{folder}: {len(wrong)} tensors are not as transformers' model has them, such as {wrong[0]}: "
            f"exported {written.get(wrong[0])}, transformers {wanted.get(wrong[0])}"
        )


def is_known_to_transformers(geometry: ModelGeometry) -> bool:
    """Whether transformers has the architecture's code itself."""
    # Loads what is used here, too: transformers' own modules are imported when they are first touched.
    _ = _transformers().AutoModelForCausalLM, _transformers().AutoTokenizer
    return geometry.model_type in _transformers().models.auto.configuration_auto.CONFIG_MAPPING


def transformers_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors that transformers' model for this config has; a tied tensor counts once."""
    transformers = _transformers()
    config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)
    model.tie_weights()
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}


def _open_with_transformers(folder: Path) -> None:
    transformers = _transformers()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    if tokenizer.eos_token_id is not None:
        _check_stop_token(folder, tokenizer.eos_token_id)
    if not tokenizer.chat_template:
        raise ConversionError(f"{folder}: transformers finds no chat template in the exported tokenizer")


def _check_stop_token(folder: Path, eos_token_id: int) -> None:
    generation = _transformers().GenerationConfig.from_pretrained(folder, local_files_only=True)
    if eos_token_id not in generation.eos_token_id:
        raise ConversionError(
            f"{folder / assets.GENERATION_CONFIG}: eos_token_id {generation.eos_token_id} lacks the tokenizer's "
            f"{eos_token_id}"
        )


def _transformers() -> Any:
    # Imported late: it takes seconds, and a damaged checkpoint should be refused before.
    import transformers

    return transformers
