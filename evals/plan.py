"""Which answers an evaluation needs: every one has a key made of what decides its content."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from evals.config import BasePrompt, EvaluateConfig
from evals.items import Item
from evals.task import Task
from evals.tasks.benchmark import Preset
from megatron_sft.errors import ConfigError
from megatron_sft.generation.model_folder import ModelFolder

THINK_OPENING = "<think>"

Number = TypeVar("Number", int, float)


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How answers are drawn; the same for all answers of a model to a task."""

    temperature: float
    top_p: float
    top_k: int
    min_p: float
    presence_penalty: float
    frequency_penalty: float
    max_tokens: int
    stop_token_ids: list[int]
    num_samples_per_item: int
    dtype: str
    """As asked for; `engine.dtype` in the results is what it came to."""
    prompt_format: str
    """chat: the model's template; plain: the text of the question alone."""


@dataclass(frozen=True, kw_only=True)
class PlannedAnswer:
    """One answer to have."""

    key: str
    item: Item
    sample: int
    prompt_token_ids: list[int]
    seed: int | None
    """None when greedy."""
    prompt_opens_think: bool
    """The prompt ends inside a think block, as some templates make it."""


@dataclass(frozen=True, kw_only=True)
class TaskPlan:
    """All answers of one model to one task."""

    model: ModelFolder
    task: Task
    sampling: Sampling
    answers: list[PlannedAnswer]
    """Item by item, the samples of an item together."""
    prompt_fingerprint: str
    """sha256 over the token ids of all prompts."""

    def records_path(self, output: Path, folder: str) -> Path:
        """Return the file under OUTPUT/folder for this model and task."""
        return output / folder / self.model.name / f"{self.task.name}.jsonl"


def make_plan(config: EvaluateConfig, model: ModelFolder, task: Task, prompt_format: BasePrompt = "chat") -> TaskPlan:
    """Render the prompts and key the answers.

    Raises:
        ConfigError: when prompt and budget do not fit the context: nothing is ever cut to fit.
    """
    context_len = max_model_len(config, model)
    prompts = [_encode(model, item, prompt_format) for item in task.items]
    longest, longest_item = max(zip(map(len, prompts), (item.id for item in task.items), strict=True))
    sampling = make_sampling(config, model, task, room=context_len - longest, prompt_format=prompt_format)
    max_tokens = sampling.max_tokens
    if max_tokens < 1 or longest + max_tokens > context_len:
        raise ConfigError(
            f"task {task.name}, model {model.path}: the prompt of {longest_item} has {longest} tokens, which with "
            f"--max-tokens {config.max_tokens} exceeds the context of {context_len}: "
            "lower --max-tokens or raise --max-model-len"
        )
    answers = [
        _plan_answer(config, model, sampling, item, prompt, sample)
        for item, prompt in zip(task.items, prompts, strict=True)
        for sample in range(sampling.num_samples_per_item)
    ]
    prompt_fingerprint = _sha256(json.dumps(prompts))
    return TaskPlan(model=model, task=task, sampling=sampling, answers=answers, prompt_fingerprint=prompt_fingerprint)


def make_sampling(
    config: EvaluateConfig, model: ModelFolder, task: Task, *, room: int, prompt_format: BasePrompt
) -> Sampling:
    """Return the options where they are given, else the benchmark's preset; a preset's budget is at most `room`."""
    preset: Preset = task.preset
    budget = preset.max_tokens
    if preset.max_total_tokens is not None:
        budget = min(budget, preset.max_total_tokens - (max_model_len(config, model) - room))
    temperature = preset.temperature if config.temperature is None else config.temperature
    num_samples = config.num_samples_per_item or (1 if temperature == 0 else preset.num_samples_per_item)
    return Sampling(
        temperature=temperature,
        top_p=_first(config.top_p, preset.top_p),
        top_k=_first(config.top_k, preset.top_k),
        min_p=_first(config.min_p, preset.min_p),
        presence_penalty=_first(config.presence_penalty, preset.presence_penalty),
        frequency_penalty=_first(config.frequency_penalty, preset.frequency_penalty),
        max_tokens=config.max_tokens or min(budget, room),
        stop_token_ids=sorted(model.tokenizer.stop_ids),
        num_samples_per_item=num_samples,
        dtype=config.dtype,
        prompt_format=prompt_format,
    )


def _first(given: Number | None, preset: Number) -> Number:
    return preset if given is None else given


def _encode(model: ModelFolder, item: Item, prompt_format: BasePrompt) -> list[int]:
    if prompt_format == "chat":
        return model.tokenizer.encode_prompt(item.messages)
    return model.tokenizer.encode("\n\n".join(message["content"] for message in item.messages))


def max_model_len(config: EvaluateConfig, model: ModelFolder) -> int:
    """Return the context length in tokens, refusing more than the model was made for."""
    if config.max_model_len is None:
        return model.max_position_embeddings
    if config.max_model_len > model.max_position_embeddings:
        raise ConfigError(
            f"--max-model-len {config.max_model_len} is more than {model.path} was made for "
            f"(max_position_embeddings {model.max_position_embeddings})"
        )
    return config.max_model_len


def _plan_answer(
    config: EvaluateConfig, model: ModelFolder, sampling: Sampling, item: Item, prompt: list[int], sample: int
) -> PlannedAnswer:
    greedy = sampling.temperature == 0
    content = asdict(sampling) | {
        "model": model.fingerprint,
        "prompt": prompt,
        "sample": sample,
        "seed": None if greedy else config.seed,
    }
    # More samples of an item add to those that are there: their number must not change the key.
    del content["num_samples_per_item"]
    key = _sha256(json.dumps(content, sort_keys=True))
    # The engine's seed must not depend on the model: the same draws make checkpoints comparable.
    own_seed = int(_sha256(json.dumps([config.seed, prompt, sample]))[:8], 16) >> 1
    rendered_end = model.tokenizer.decode(prompt[-8:]).rstrip()
    return PlannedAnswer(
        key=key,
        item=item,
        sample=sample,
        prompt_token_ids=prompt,
        seed=None if greedy else own_seed,
        prompt_opens_think=rendered_end.endswith(THINK_OPENING),
    )


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
