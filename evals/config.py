"""The options of `evaluate`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from megatron_sft.errors import ConfigError

Stage = Literal["all", "generate", "grade"]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Generate answers to held-out problems with vLLM, grade them, and score every checkpoint.

    Results are in OUTPUT/results.json, raw answers in OUTPUT/generations. A second run with the same output folder
    reuses every answer whose model, prompt and sampling are unchanged.
    """

    model: tuple[Path, ...]
    """Hugging Face model folders, one per checkpoint, each with tokenizer and chat template."""
    base: Path | None = None
    """Model folder that the fine-tuning started from: evaluated as well, as iteration 0, whatever step of its own
    training it was exported at."""
    tasks: str
    """Tasks separated by commas; the problems of task X are read from DATA/X.held_out.jsonl."""
    output: Path
    """Folder for results, generations, grades, engine logs and TensorBoard events."""
    data: Path = Path("data")
    """Folder with the <task>.held_out.jsonl files."""
    in_domain: str = ""
    """Those of the tasks, separated by commas, that the model was fine-tuned on; the others count as out of domain."""
    stage: Stage = "all"
    """all; generate: write generations only; grade: grade and score what was generated before, without an engine."""
    limit: int | None = None
    """Use only the first N problems of each task. Default: all."""
    num_samples_per_item: int = 1
    """Answers sampled per problem; the score is their mean (avg@k)."""
    max_tokens: int | None = None
    """Most tokens an answer may have; a longer one is cut off and counts as wrong. Default: what the model's
    context leaves after the task's longest prompt."""
    temperature: float = 0.6
    """Sampling temperature; 0 is greedy."""
    top_p: float = 0.95
    """Sample from the likeliest tokens that together have this probability."""
    seed: int = 0
    """Every answer's own seed is derived from this one, its prompt and its number."""
    max_model_len: int | None = None
    """Context length in tokens. Default: the model's max_position_embeddings."""
    dtype: Dtype = "auto"
    """Precision of the engine. auto: float32 on CPU, the checkpoint's own on GPU."""
    tensor_parallel_size: int = 1
    """GPUs per engine."""
    max_num_seqs: int = 256
    """Most answers that the engine works on at a time."""
    kv_cache_gib: float | None = None
    """Memory for the key-value cache, in GiB. Default: on CPU as much as max_num_seqs full contexts need, but not
    above 1 GiB nor below one context; on GPU what --gpu-memory-utilization leaves."""
    gpu_memory_utilization: float | None = None
    """Share of GPU memory that the engine may take, 0 to 1. Default: 0.9. An error on CPU."""
    num_engines: int = 1
    """Checkpoints evaluated at a time, each by an engine of its own; on CPU they divide the cores among them."""
    graders: str = ""
    """Graders that differ from the default, as task=grader separated by commas. Graders: exact, countdown, math.
    Default: countdown for answers with numbers and target, exact for this project's own tasks, else math."""
    tensorboard_dir: Path | None = None
    """Folder for TensorBoard events. Default: OUTPUT/tensorboard."""

    def __post_init__(self) -> None:
        """Refuse values and combinations that cannot work or would have no effect."""
        if not self.model:
            raise ConfigError("--model: name at least one model folder")
        for option, value in (
            ("--num-samples-per-item", self.num_samples_per_item),
            ("--max-num-seqs", self.max_num_seqs),
            ("--num-engines", self.num_engines),
            ("--tensor-parallel-size", self.tensor_parallel_size),
            ("--limit", self.limit),
            ("--max-tokens", self.max_tokens),
            ("--max-model-len", self.max_model_len),
            ("--kv-cache-gib", self.kv_cache_gib),
        ):
            if value is not None and value <= 0:
                raise ConfigError(f"{option} {value}: must be positive")
        if self.temperature < 0 or not 0 < self.top_p <= 1:
            raise ConfigError(
                f"--temperature {self.temperature} must not be negative, --top-p {self.top_p} within (0, 1]"
            )
        if self.gpu_memory_utilization is not None and not 0 < self.gpu_memory_utilization <= 1:
            raise ConfigError(f"--gpu-memory-utilization {self.gpu_memory_utilization}: must be within (0, 1]")
        if self.temperature == 0 and self.num_samples_per_item > 1:
            raise ConfigError("--num-samples-per-item has no effect at --temperature 0: all answers would be the same")
        tasks = self.task_names()
        if not tasks or len(set(tasks)) != len(tasks):
            raise ConfigError(f"--tasks {self.tasks!r}: name each task once, separated by commas")
        for option, names in (("--in-domain", self.in_domain_names()), ("--graders", list(self.grader_choices()))):
            for name in names:
                if name not in tasks:
                    raise ConfigError(f"{option}: {name!r} is not among --tasks {self.tasks}")

    def task_names(self) -> list[str]:
        """Return the tasks, in the order given."""
        return split_names(self.tasks)

    def in_domain_names(self) -> list[str]:
        """Return the tasks of the in-domain group."""
        return split_names(self.in_domain)

    def grader_choices(self) -> dict[str, str]:
        """Return the graders chosen by task."""
        pairs = [entry.partition("=") for entry in split_names(self.graders)]
        for task, equals, grader in pairs:
            if not (task and equals and grader):
                raise ConfigError(f"--graders {self.graders!r}: expected task=grader, separated by commas")
        return {task.strip(): grader.strip() for task, _, grader in pairs}


def split_names(text: str) -> list[str]:
    """Split at commas, without surrounding space and empty parts."""
    return [part.strip() for part in text.split(",") if part.strip()]
