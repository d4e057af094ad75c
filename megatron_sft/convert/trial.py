"""Let transformers generate a few tokens from an exported folder before it is called done."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from megatron_sft.data.chat import ChatTokenizer
from megatron_sft.errors import ConversionError

Trial: TypeAlias = Literal["auto", "always", "never"]

AUTO_BYTES = 1 << 30
"""Weights up to this size are tried by default: the trial holds the whole model in memory, nothing else here does."""
PROMPT = "What is 17 + 25?"
NUM_TOKENS = 8


@dataclass(frozen=True)
class TrialResult:
    """What the model said."""

    prompt_token_ids: list[int]
    token_ids: list[int]
    """Greedy, up to `NUM_TOKENS`."""
    text: str


def is_wanted(trial: Trial, num_bytes: int) -> bool:
    """Whether weights of this size are tried."""
    return trial == "always" or (trial == "auto" and num_bytes <= AUTO_BYTES)


def generate(folder: Path) -> TrialResult:
    """Generate greedily with the weights' own dtype on the CPU.

    Raises:
        ConversionError: when transformers cannot load the folder, or a logit is not finite.
    """
    import torch
    import transformers

    tokenizer = ChatTokenizer(folder)
    prompt = tokenizer.encode_prompt([{"role": "user", "content": PROMPT}])
    if not prompt:
        raise ConversionError(f"{folder}: the tokenizer makes no token of the prompt {PROMPT!r}")
    try:
        model: Any = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype="auto", local_files_only=True)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ConversionError(f"{folder}: transformers cannot load the exported model: {error}") from error
    ids = list(prompt)
    with torch.inference_mode():
        for _ in range(NUM_TOKENS):
            logits = model(torch.tensor([ids])).logits[0, -1]
            if not torch.isfinite(logits).all():
                raise ConversionError(
                    f"{folder}: after {len(ids)} tokens a logit is not finite: the checkpoint's weights are broken, or "
                    f"overflow as {str(logits.dtype).removeprefix('torch.')}"
                )
            ids.append(int(logits.argmax()))
            if ids[-1] in tokenizer.stop_ids:
                break
    generated = ids[len(prompt) :]
    return TrialResult(prompt_token_ids=prompt, token_ids=generated, text=tokenizer.decode(generated))
