"""Write the model of a GGUF file as a Hugging Face folder, in float32.

Small models that are distributed as GGUF become teachers, students and test models this way, without a hub. Weights
that the file holds in fewer bits are written as what these bits stand for.
"""

import importlib.util
from collections.abc import Callable
from pathlib import Path

from megatron_sft.convert.disk import writing
from megatron_sft.errors import ConversionError, EnvironmentProblem
from megatron_sft.files import removed_on_failure, sync_directory, sync_tree

NEEDED = ("gguf", "accelerate")
"""Packages that transformers reads GGUF files with."""


def import_gguf(source: str | Path, output: str | Path, *, say: Callable[[str], None] = print) -> Path:
    """Write the model of `source` to the folder `output`; returns that path.

    Args:
        source: a GGUF file, or the name of an installed Python package that carries exactly one. The package is not
            imported.
        output: the folder to make; it must not exist, or be empty.
        say: receives one line per step.

    Raises:
        ConversionError: when there is no such file, transformers cannot read it, its tokenizer has no chat template or
            stop token, or `output` is not empty or cannot be written. Nothing is left at `output` then.
        EnvironmentProblem: when a package that reading needs is not installed.
    """
    path, output = find_gguf(str(source)), Path(output)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ConversionError(f"{output}: already exists; remove it or name another output folder")
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise EnvironmentProblem(f"reading GGUF needs {' and '.join(missing)}: install the extra `gguf`")
    import torch
    import transformers

    say(f"reading {path} ({path.stat().st_size / 1e6:.1f} MB)")
    where = {"gguf_file": path.name, "local_files_only": True}
    try:
        # Without this argument transformers keeps the quantized layers of some types.
        plain = transformers.GgufConfig(dequantize=True)
        model = transformers.AutoModelForCausalLM.from_pretrained(
            path.parent, dtype=torch.float32, quantization_config=plain, **where
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(path.parent, **where)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ConversionError(f"{path}: transformers cannot read it: {error}") from error
    if not tokenizer.chat_template or tokenizer.eos_token_id is None:
        raise ConversionError(f"{path}: its tokenizer has no chat template or no stop token, which training needs")
    partial = output.parent / f".{output.name}.partial"
    with writing(output), removed_on_failure(partial):
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        sync_tree(partial)
        output.parent.mkdir(parents=True, exist_ok=True)
        partial.rename(output)
        sync_directory(output.parent)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    say(f"done: {output} ({model.config.model_type}, {parameters / 1e6:.1f} million parameters, float32)")
    return output


def find_gguf(source: str) -> Path:
    """Return the file that `source` names, or that the installed package `source` carries.

    Raises:
        ConversionError: when there is none, or the package has several.
    """
    path = Path(source)
    if path.is_file():
        return path.resolve()
    spec = importlib.util.find_spec(source) if source.isidentifier() else None
    if spec is None or spec.origin is None:
        raise ConversionError(f"{source}: neither a GGUF file nor an installed Python package")
    found = sorted(Path(spec.origin).parent.rglob("*.gguf"))
    if len(found) != 1:
        raise ConversionError(f"{source}: the package carries {len(found)} GGUF files, expected one: name the file")
    return found[0]
