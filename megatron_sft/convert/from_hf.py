"""Write a Hugging Face model as a checkpoint of iteration 0, which the trainer and `to-hf` read."""

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from megatron_sft.convert import assets
from megatron_sft.convert.hf_weights import check_folder, load_hf_into
from megatron_sft.convert.safetensors_folder import SafetensorsFolder
from megatron_sft.errors import ConversionError
from megatron_sft.files import removed_on_failure
from megatron_sft.model import checkpoint_dir
from megatron_sft.model.geometry import ModelGeometry


def import_model(model_dir: str | Path, output: str | Path, *, say: Callable[[str], None] = print) -> Path:
    """Write `output/iter_0000000` from a Hugging Face folder, in the folder's dtype; returns that path.

    Runs in one process on the CPU; the checkpoint can be loaded with any tensor and pipeline parallel size.

    Raises:
        ConversionError: when the folder is not a complete model, or `output` holds checkpoints already.
        ConfigError: when the architecture is not supported.
    """
    model_dir, output = Path(model_dir), Path(output)
    if checkpoint_dir.list_complete(output):
        raise ConversionError(f"{output}: already holds checkpoints; name another output folder")
    geometry = ModelGeometry.from_hf_config(model_dir)
    with SafetensorsFolder(model_dir) as folder:
        check_folder(folder, geometry)
        dtype = _common_dtype({info.dtype for info in folder.tensors.values()})
    say(f"importing {model_dir} ({geometry.num_layers} layers, {str(dtype).removeprefix('torch.')}) to {output}")
    with tempfile.TemporaryDirectory() as collected:
        assets.collect(model_dir, Path(collected))
        eos = assets.tokenizer_eos_id(Path(collected))
        partial = checkpoint_dir.incomplete_dir(output, 0)
        with removed_on_failure(partial), _single_process_model(geometry, dtype) as model:
            load_hf_into(model, geometry, model_dir)
            _save(model, partial)
            run_state = {
                "iteration": 0,
                "consumed_samples": 0,
                "dtype": str(dtype).removeprefix("torch."),
                "stop_token_ids": [] if eos is None else [eos],
                "source": str(model_dir.resolve()),
            }
            final = checkpoint_dir.finish(partial, run_state, Path(collected))
    say(f"done: {final}")
    return final


def _common_dtype(dtypes: set[torch.dtype]) -> torch.dtype:
    """The one dtype, or float32, which holds each of several exactly."""
    return next(iter(dtypes)) if len(dtypes) == 1 else torch.float32


@contextlib.contextmanager
def _single_process_model(geometry: ModelGeometry, dtype: torch.dtype) -> Iterator[torch.nn.Module]:
    from megatron.core import parallel_state

    from megatron_sft.model.device import process_group, select_device
    from megatron_sft.model.gpt import build_gpt, initialize_model_parallel, transformer_config
    from megatron_sft.model.layout import ParallelLayout

    device, layout = select_device("cpu"), ParallelLayout()
    with device.activate(), process_group(device):
        initialize_model_parallel(layout)
        try:
            config = transformer_config(geometry, layout, device, dtype=dtype, perform_initialization=False)
            yield build_gpt(config, geometry, device)
        finally:
            parallel_state.destroy_model_parallel()


def _save(model: Any, folder: Path) -> None:
    from megatron.core import parallel_state

    from megatron_sft.model.sharded_save import ShardedSave

    metadata = {"dp_cp_group": parallel_state.get_data_parallel_group(with_context_parallel=True)}
    ShardedSave(model.sharded_state_dict(metadata=metadata), folder).finish()
