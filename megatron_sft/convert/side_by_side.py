"""Two models side by side, as transformers computes them in float32: logits, greedy continuations, layers.

The models are loaded one after the other, so memory holds one of them.
"""

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from megatron_sft.convert import assets
from megatron_sft.convert.mapping import architecture_map
from megatron_sft.convert.to_hf import export
from megatron_sft.data.chat import ChatTokenizer
from megatron_sft.errors import ConversionError
from megatron_sft.model import checkpoint_dir
from megatron_sft.model.geometry import ModelGeometry

PROMPTS = (
    "What is 17 + 25?",
    "Explain in one sentence why the sky is blue.",
    "Write a Python function that reverses a list.",
    "A train leaves at 9:40 and arrives at 11:05. How long does the journey take?",
)
_MUST_AGREE = ("num_layers", "hidden_size", "vocab_size")


@dataclass(frozen=True)
class Computed:
    """What a model makes of one prompt of T tokens."""

    states: dict[str, torch.Tensor]
    """float32[T, hidden] by place, in the order in which they are computed; last `logits` [T, vocab]."""
    continuation: list[int]
    """Greedy token ids."""


def verify_models(
    left: Path,
    right: Path,
    *,
    prompts: Sequence[str] = PROMPTS,
    num_tokens: int = 32,
    tolerance: float = 1e-5,
    say: Callable[[str], None] = print,
) -> bool:
    """Compare two models, print what differs, and return whether they agree.

    Args:
        left: a Hugging Face folder, or a checkpoint (a trainer's --save folder or one iteration), exported first.
        right: the same.
        prompts: texts of users, rendered with the chat template of `left`.
        num_tokens: length of the greedy continuations.
        tolerance: largest difference of logits and hidden states that counts as none.
        say: receives one line per finding.

    Raises:
        ConversionError: when a model cannot be opened, or the two have not the same shape.
    """
    with contextlib.ExitStack() as stack:
        folders = [stack.enter_context(_opened(path, say)) for path in (left, right)]
        geometries = [_geometry(folder) for folder in folders]
        for name in _MUST_AGREE:
            values = [getattr(geometry, name) for geometry in geometries]
            if values[0] != values[1]:
                raise ConversionError(f"{left} and {right} cannot be compared: {name} is {values[0]} and {values[1]}")
        tokenizers = [ChatTokenizer(folder) for folder in folders]
        ids = [tokenizers[0].encode_prompt([{"role": "user", "content": prompt}]) for prompt in prompts]
        if not all(ids):
            raise ConversionError(f"{left}: the tokenizer makes no token of prompt {prompts[ids.index([])]!r}")
        agrees = _same_tokenizer(tokenizers, say)
        computed = [_compute(folder, ids, num_tokens) for folder in folders]
    for prompt, one, other in zip(prompts, *computed, strict=True):
        agrees &= _report(prompt, one, other, tokenizers[0], tolerance, say)
    say("the models agree" if agrees else "the models differ")
    return agrees


@contextlib.contextmanager
def _opened(path: Path, say: Callable[[str], None]) -> Iterator[Path]:
    """The Hugging Face folder of a model; a temporary one for a checkpoint."""
    if (path / assets.CONFIG).is_file():
        yield path
        return
    folder = checkpoint_dir.resolve(path)
    with tempfile.TemporaryDirectory() as scratch:
        export(folder, Path(scratch) / "hf", say=say)
        yield Path(scratch) / "hf"


def _geometry(folder: Path) -> ModelGeometry:
    geometry = ModelGeometry.from_hf_config(folder)
    if not architecture_map(geometry).is_in_transformers:
        raise ConversionError(
            f"{folder}: transformers has no {geometry.model_type} of its own, and the code in the folder is not run"
        )
    return geometry


def _same_tokenizer(tokenizers: Sequence[ChatTokenizer], say: Callable[[str], None]) -> bool:
    left, right = tokenizers
    same = left.fingerprint == right.fingerprint
    if not same:
        say("tokenizer or chat template: not the same")
    if set(left.stop_ids) != set(right.stop_ids):
        say(f"stop ids: {sorted(left.stop_ids)} and {sorted(right.stop_ids)}")
    return same


@torch.no_grad()
def _compute(folder: Path, prompts: Sequence[list[int]], num_tokens: int) -> list[Computed]:
    import transformers

    loader: Any = transformers.AutoModelForCausalLM
    model = loader.from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()
    states: dict[str, torch.Tensor] = {}
    core = model.model
    places = {"embedding": core.embed_tokens}
    places |= {f"layer {number}": layer for number, layer in enumerate(core.layers)}
    places |= {"final norm": core.norm, "logits": model.lm_head}
    for name, module in places.items():
        module.register_forward_hook(_keeper(states, name))
    computed = []
    for prompt in prompts:
        states.clear()
        output = model(torch.tensor([prompt]), use_cache=True)
        kept = dict(states)
        computed.append(Computed(kept, _greedy(model, output, num_tokens)))
    return computed


def _keeper(states: dict[str, torch.Tensor], name: str) -> Callable[..., None]:
    def keep(_module: Any, _inputs: Any, output: Any) -> None:
        states[name] = (output[0] if isinstance(output, tuple) else output)[0].clone()

    return keep


def _greedy(model: Any, output: Any, num_tokens: int) -> list[int]:
    """The likeliest token each time, stop tokens not heeded; `output` is that of the prompt."""
    continuation: list[int] = []
    while True:
        continuation.append(int(output.logits[0, -1].argmax()))
        if len(continuation) >= num_tokens:
            return continuation
        output = model(torch.tensor([continuation[-1:]]), past_key_values=output.past_key_values, use_cache=True)


def _report(
    prompt: str, left: Computed, right: Computed, tokenizer: ChatTokenizer, tolerance: float, say: Callable[[str], None]
) -> bool:
    """Say what one prompt shows; returns whether the models agree on it."""
    differences = {name: _difference(state, right.states[name]) for name, state in left.states.items()}
    pairs = enumerate(zip(left.continuation, right.continuation, strict=True))
    parted = next((number for number, (one, other) in pairs if one != other), None)
    say(f"prompt {prompt!r}: largest difference of logits {differences['logits']:.3g}")
    if parted is None:
        say(f"  greedy: the same {len(left.continuation)} tokens")
    else:
        texts = [tokenizer.decode(model.continuation[: parted + 1]) for model in (left, right)]
        say(f"  greedy: part at token {parted + 1}: {texts[0]!r} and {texts[1]!r}")
    wrong = [name for name, value in differences.items() if not value <= tolerance]
    if wrong:
        say(f"  first difference: {wrong[0]}; by place:")
        for name, value in differences.items():
            say(f"    {name:<12} {value:.3g}")
    return parted is None and not wrong


def _difference(left: torch.Tensor, right: torch.Tensor) -> float:
    """Largest absolute difference; infinite when one of them has a NaN where the other has none."""
    if not torch.equal(left.isnan(), right.isnan()):
        return float("inf")
    return float((left - right).abs().nan_to_num(0.0).max())
