"""The options of `evaluate`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from evals.tasks.registry import PAPER, PAPER_TASKS
from megatron_sft.errors import ConfigError
from megatron_sft.generation.engine_messages import EngineKind

Stage = Literal["all", "generate", "judge", "grade"]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]
BasePrompt = Literal["chat", "plain"]


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Generate answers to benchmarks and held-out problems, grade them, and score every checkpoint.

    Results are in OUTPUT/results.json, raw answers in OUTPUT/generations. A second run with the same output folder
    reuses every answer whose model, prompt and sampling are unchanged.
    """

    model: tuple[str, ...] = ()
    """Hugging Face model folders, one per checkpoint, each with tokenizer and chat template; quoted patterns; or
    folders of exports, as `convert_checkpoint to-hf --iteration all` writes them. With --endpoint, the name that the
    server has for its model. Beside --base it may be left out."""
    steps: str = ""
    """Of the exports found, take those of these iterations, separated by commas. Default: all."""
    base: Path | None = None
    """Model folder that the fine-tuning started from: evaluated as well, as iteration 0, whatever step of its own
    training it was exported at."""
    base_prompt: BasePrompt = "chat"
    """How --base is asked: by its chat template like the others, or with the text of the question alone."""
    tasks: str
    """Tasks separated by commas: benchmarks (docs/benchmarks.md; `paper` stands for all of the paper's), or tasks whose
    problems are in DATA/<task>.held_out.jsonl."""
    output: Path
    """Folder for results, generations, grades, engine logs and TensorBoard events."""
    data: Path = Path("data")
    """Folder with the benchmarks' files and the <task>.held_out.jsonl files."""
    in_domain: str = ""
    """Those of the tasks, separated by commas, that the model was fine-tuned on; held-out problems of other tasks count
    as out of domain, other benchmarks keep their group."""
    paper_quirks: str = ""
    """Deviations from the protocol that the paper's own code has, separated by commas, or all; docs/benchmarks.md lists
    them."""
    stage: Stage = "all"
    """all; generate: write generations only; judge: only ask the judges about what was generated; grade: grade and
    score what is on file, without an engine or judge."""
    limit: int | None = None
    """Use only the first N problems of each task. Default: all."""
    num_samples_per_item: int | None = None
    """Answers sampled per problem; the score is their mean (avg@k). Default: the benchmark's preset, else 1."""
    max_tokens: int | None = None
    """Most tokens an answer may have; a longer one is cut off and counts as wrong. Default: the benchmark's preset, or
    what the model's context leaves after the task's longest prompt, if that is less."""
    temperature: float | None = None
    """Sampling temperature; 0 is greedy. Default: the benchmark's preset, else 0.6."""
    top_p: float | None = None
    """Sample from the likeliest tokens that together have this probability. Default: the preset, else 0.95."""
    top_k: int | None = None
    """Sample from this many of the likeliest tokens; 0: from all. Default: the preset, else 0."""
    min_p: float | None = None
    """Leave out tokens less likely than this share of the likeliest one's probability. Default: the preset, else 0."""
    presence_penalty: float | None = None
    """Default: the benchmark's preset, else 0."""
    frequency_penalty: float | None = None
    """Default: the benchmark's preset, else 0."""
    seed: int = 0
    """Every answer's own seed is derived from this one, its prompt and its number."""
    max_model_len: int | None = None
    """Context length in tokens. Default: the model's max_position_embeddings."""
    engine: EngineKind = "vllm"
    """vllm; or transformers, which is several times slower and runs on any machine."""
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
    data_parallel_size: int = 1
    """Engines for each checkpoint, each with GPUs of its own; they share its answers."""
    reload_weights: bool = False
    """Keep the engine from checkpoint to checkpoint and replace its weights, instead of starting one for each; answers
    to a probe before and after have to differ."""
    graders: str = ""
    """Graders that differ from the default, as task=grader separated by commas. Default: the benchmark's; of held-out
    problems, countdown for answers with numbers and target, exact for this project's own tasks, else math."""
    num_grading_threads: int = 4
    """Answers graded at a time, where the grader runs programs."""
    judge: tuple[str, ...] = ()
    """Who decides about answers to open questions: NAME@URL of an OpenAI-compatible server, reward:NAME@URL of a served
    reward model, or a model folder. The first one decides; how far a second one agrees is reported."""
    judge_max_tokens: int = 4096
    """Most tokens of a judge's answer; one that is cut off does not count."""
    judge_max_num_seqs: int = 64
    """Most questions to a judge under way."""
    judge_max_model_len: int | None = None
    """Context of a judge's model folder in tokens. Default: its max_position_embeddings."""
    judge_api_key_variable: str | None = None
    """Environment variable with the key that the judge's server asks for."""
    endpoint: str | None = None
    """Address of an OpenAI-compatible server that answers in place of an engine, up to and with /v1; --model is then
    the name that it has for its model, --tokenizer a folder, --max-model-len its context."""
    tokenizer: Path | None = None
    """With --endpoint: folder with the model's tokenizer and chat template."""
    endpoint_dialect: Literal["vllm", "openai"] = "vllm"
    """What servers, judges included, understand; `openai`: only the fields of OpenAI's own API."""
    api_key_variable: str | None = None
    """Environment variable with the key that --endpoint asks for."""
    request_timeout: float = 3600.0
    """Seconds that an answer of a server, or of a judge's, may take."""
    tensorboard_dir: Path | None = None
    """Folder for TensorBoard events. Default: OUTPUT/tensorboard."""

    def __post_init__(self) -> None:
        """Refuse values and combinations that cannot work or would have no effect."""
        if not self.model and self.base is None:
            raise ConfigError("--model: name at least one model folder, or one with --base")
        if not self.model and self.steps:
            raise ConfigError("--steps has no effect without --model")
        for option, value in (
            ("--num-samples-per-item", self.num_samples_per_item),
            ("--max-num-seqs", self.max_num_seqs),
            ("--num-engines", self.num_engines),
            ("--data-parallel-size", self.data_parallel_size),
            ("--tensor-parallel-size", self.tensor_parallel_size),
            ("--limit", self.limit),
            ("--max-tokens", self.max_tokens),
            ("--max-model-len", self.max_model_len),
            ("--kv-cache-gib", self.kv_cache_gib),
            ("--num-grading-threads", self.num_grading_threads),
        ):
            if value is not None and value <= 0:
                raise ConfigError(f"{option} {value}: must be positive")
        for option, number, low, high in (
            ("--temperature", self.temperature, 0, 100),
            ("--top-k", self.top_k, 0, 1 << 30),
            ("--min-p", self.min_p, 0, 1),
            ("--presence-penalty", self.presence_penalty, -2, 2),
            ("--frequency-penalty", self.frequency_penalty, -2, 2),
        ):
            if number is not None and not low <= number <= high:
                raise ConfigError(f"{option} {number}: must be from {low} to {high}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ConfigError(f"--top-p {self.top_p}: must be above 0, at most 1")
        if self.endpoint is not None:
            if self.tokenizer is None or self.max_model_len is None:
                raise ConfigError("--endpoint needs --tokenizer, a folder, and --max-model-len, the server's context")
            if len(self.model) != 1 or self.base is not None or self.steps or self.reload_weights:
                raise ConfigError("--endpoint serves one model: leave --base, --steps and --reload-weights out")
        elif self.tokenizer is not None or self.api_key_variable is not None:
            raise ConfigError("--tokenizer and --api-key-variable have no effect without --endpoint")
        self._check_engine()
        if self.reload_weights and self.data_parallel_size > 1:
            raise ConfigError("--reload-weights keeps one engine for a series: leave --data-parallel-size out")
        if self.base_prompt != "chat" and self.base is None:
            raise ConfigError("--base-prompt has no effect without --base")
        self.step_numbers()
        if self.gpu_memory_utilization is not None and not 0 < self.gpu_memory_utilization <= 1:
            raise ConfigError(f"--gpu-memory-utilization {self.gpu_memory_utilization}: must be within (0, 1]")
        if self.temperature == 0 and (self.num_samples_per_item or 1) > 1:
            raise ConfigError("--num-samples-per-item has no effect at --temperature 0: all answers would be the same")
        tasks = self.task_names()
        if not tasks or len(set(tasks)) != len(tasks):
            raise ConfigError(f"--tasks {self.tasks!r}: name each task once, separated by commas")
        for option, names in (("--in-domain", self.in_domain_names()), ("--graders", list(self.grader_choices()))):
            for name in names:
                if name not in tasks:
                    raise ConfigError(f"{option}: {name!r} is not among --tasks {self.tasks}")

    def _check_engine(self) -> None:
        """Refuse what only vLLM has."""
        of_vllm = {
            "--endpoint": self.endpoint is not None,
            "--reload-weights": self.reload_weights,
            "--tensor-parallel-size": self.tensor_parallel_size > 1,
            "--kv-cache-gib": self.kv_cache_gib is not None,
            "--gpu-memory-utilization": self.gpu_memory_utilization is not None,
        }
        for option, is_given in of_vllm.items():
            if self.engine != "vllm" and is_given:
                raise ConfigError(f"--engine {self.engine}: {option} is for vLLM or a server; leave one of them out")

    def task_names(self) -> list[str]:
        """Return the tasks, in the order given."""
        names = split_names(self.tasks)
        return [name for given in names for name in (PAPER_TASKS if given == PAPER else (given,))]

    def step_numbers(self) -> tuple[int, ...]:
        """Return the iterations of --steps.

        Raises:
            ConfigError: for anything but numbers.
        """
        parts = split_names(self.steps)
        if not all(part.isdecimal() for part in parts):
            raise ConfigError(f"--steps {self.steps!r}: expected iterations separated by commas, such as 10,20,40")
        return tuple(dict.fromkeys(int(part) for part in parts))

    def quirk_names(self) -> list[str]:
        """Return the paper's quirks that are named."""
        return split_names(self.paper_quirks)

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
