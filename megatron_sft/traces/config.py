"""The options of `generate_traces`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from megatron_sft.errors import ConfigError

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
QUERY_FIELDS = ("id", "message", "prompt")


@dataclass(frozen=True, kw_only=True)
class GenerateTracesConfig:
    """Have a teacher answer every query several times, and file the answers as rows for `build_shards`.

    A query has `message` (a list of turns with role and content) or `prompt` (a string). The same command goes on where
    a run was stopped, sample by sample, and tries again what failed. The defaults for sampling are the paper's.
    docs/traces.md describes the folder.
    """

    inputs: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="INPUT...")]
    """Files of queries (.jsonl, .jsonl.gz or .parquet), or quoted patterns."""
    output: Path
    """Folder for the traces."""
    model: str
    """The teacher: a Hugging Face model folder; with --endpoint, the name that the server has for it."""
    endpoint: str | None = None
    """Address of an OpenAI-compatible server, up to and with /v1. By default vLLM runs in processes of this program."""
    tokenizer: Path | None = None
    """With --endpoint: folder with the teacher's tokenizer and chat template. Without: it is in the model folder."""
    endpoint_dialect: Literal["vllm", "openai"] = "vllm"
    """What the server understands. `openai`: only the fields of OpenAI's own API, so no --top-k and --min-p; the
    server decides where an answer ends and how it becomes text."""
    api_key_variable: str | None = None
    """Environment variable with the key that the server asks for."""
    columns: tuple[str, ...] = ()
    """Names of the columns where they differ, as FIELD=COLUMN: id, message, prompt. Without `id`, a query's id is a
    hash of its turns."""
    carry: tuple[str, ...] | None = None
    """Columns to take along into every row, `answer` above all. Default: all whose name the rows do not use already."""
    prompt_suffix: str = ""
    """Appended to the last user turn as it stands, for example $'\\nPlease reason step by step.'"""
    limit: int | None = None
    """Use only the first N queries. Default: all."""
    num_samples: int = 32
    """Answers per query. A larger number later adds to those that are there."""
    temperature: float = 0.6
    """Sampling temperature; 0 is greedy."""
    top_p: float = 0.95
    """Sample from the likeliest tokens that together have this probability."""
    top_k: int = 20
    """Sample from this many of the likeliest tokens; 0: from all."""
    min_p: float = 0.0
    """Leave out tokens that are less likely than this share of the likeliest one's probability."""
    max_tokens: int = 16_384
    """Most tokens of an answer; a longer one is cut off and filed as such."""
    seed: int = 0
    """Every answer's own seed is derived from this one, the id of its query and its number."""
    logprobs: bool = False
    """Also file the ids of the tokens and their log-probabilities."""
    max_model_len: int | None = None
    """Context length in tokens. Default: the model's max_position_embeddings; with --endpoint, the server decides."""
    dtype: Dtype = "auto"
    """Precision of the engine. auto: float32 on CPU, the checkpoint's own on GPU."""
    tensor_parallel_size: int = 1
    """GPUs per engine."""
    data_parallel_size: int = 1
    """Engines, each with GPUs of its own. This program starts them all and deals the queries out as they have room;
    with --data-parallel-rank, it is one of so many programs that share the folder."""
    data_parallel_rank: int | None = None
    """Answer only every Nth query from this one on (0 to N-1, with N = --data-parallel-size), with one engine on the
    GPUs that this process sees."""
    max_num_seqs: int = 256
    """Most answers that an engine works on at a time; with --endpoint, most requests under way."""
    kv_cache_gib: float | None = None
    """Memory for the key-value cache, in GiB. Default: on CPU at most 1 GiB, on GPU what --gpu-memory-utilization
    leaves."""
    gpu_memory_utilization: float | None = None
    """Share of GPU memory that an engine may take, 0 to 1. Default: 0.9. An error on CPU."""
    request_timeout: float = 3600.0
    """With --endpoint: seconds that an answer may take."""
    max_attempts: int = 20
    """With --endpoint: attempts for one answer, before it is reported as failed."""
    retry_delay: float = 1.0
    """With --endpoint: seconds before the second attempt, on average three quarters of it; doubled for each further
    one."""
    max_retry_delay: float = 60.0
    """With --endpoint: most seconds between two attempts."""

    def __post_init__(self) -> None:
        """Refuse values and combinations that cannot work or would have no effect."""
        self._check_numbers()
        if self.endpoint is None:
            self._refuse(_ENDPOINT_OPTIONS, "has no effect without --endpoint")
        else:
            self._check_endpoint(self.endpoint)
        if self.temperature == 0 and self.num_samples > 1:
            raise ConfigError("--num-samples above 1 has no effect at --temperature 0: all answers would be the same")
        rank, size = self.data_parallel_rank, self.data_parallel_size
        if rank is not None and not 0 <= rank < size:
            raise ConfigError(f"--data-parallel-rank {rank}: must be from 0 to --data-parallel-size {size} minus 1")
        self.column_names()

    def _check_numbers(self) -> None:
        for option in (
            *("num_samples", "max_tokens", "limit", "max_model_len", "tensor_parallel_size", "data_parallel_size"),
            *("max_num_seqs", "kv_cache_gib", "request_timeout", "max_attempts", "retry_delay", "max_retry_delay"),
        ):
            value = getattr(self, option)
            if value is not None and value <= 0:
                raise ConfigError(f"{_spelt(option)} {value}: must be positive")
        for option in ("temperature", "top_k", "seed"):
            if getattr(self, option) < 0:
                raise ConfigError(f"{_spelt(option)} {getattr(self, option)}: must not be negative")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"--top-p {self.top_p}: must be within (0, 1]")
        if not 0 <= self.min_p <= 1:
            raise ConfigError(f"--min-p {self.min_p}: must be within [0, 1]")
        if self.gpu_memory_utilization is not None and not 0 < self.gpu_memory_utilization <= 1:
            raise ConfigError(f"--gpu-memory-utilization {self.gpu_memory_utilization}: must be within (0, 1]")

    def _check_endpoint(self, endpoint: str) -> None:
        self._refuse(_ENGINE_OPTIONS, "has no effect with --endpoint: the server decides")
        if not endpoint.startswith(("http://", "https://")):
            raise ConfigError(f"--endpoint {endpoint!r}: expected an address such as http://localhost:8000/v1")
        if self.tokenizer is None:
            raise ConfigError("--endpoint needs --tokenizer: the folder with the teacher's tokenizer and template")
        if self.data_parallel_size > 1 and self.data_parallel_rank is None:
            raise ConfigError("--data-parallel-size with --endpoint needs --data-parallel-rank: there are no engines")
        if self.endpoint_dialect == "openai" and (self.top_k or self.min_p):
            raise ConfigError(
                f"--endpoint-dialect openai has no field for --top-k {self.top_k} and --min-p {self.min_p}: "
                "give --top-k 0 and --min-p 0, or use a server that speaks vllm"
            )
        if self.endpoint_dialect == "openai" and self.logprobs:
            raise ConfigError("--logprobs needs --endpoint-dialect vllm: others do not tell the ids of the tokens")

    def _refuse(self, options: tuple[str, ...], why: str) -> None:
        for option in options:
            if getattr(self, option) != getattr(GenerateTracesConfig, option):
                raise ConfigError(f"{_spelt(option)} {why}")

    def column_names(self) -> dict[str, str]:
        """Return the columns that were named, by field.

        Raises:
            ConfigError: for an entry that is no FIELD=COLUMN.
        """
        columns: dict[str, str] = {}
        for entry in self.columns:
            name, _, column = entry.partition("=")
            if name not in QUERY_FIELDS or not column or name in columns:
                known = ", ".join(QUERY_FIELDS)
                raise ConfigError(f"--columns {entry!r}: write FIELD=COLUMN, each field once, with one of {known}")
            columns[name] = column
        return columns

    def sampling(self) -> dict[str, Any]:
        """Return what decides how an answer is drawn, as it stands in every row."""
        return {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_k": self.top_k,
            "min_p": self.min_p,
            "max_tokens": self.max_tokens,
        }


_ENDPOINT_OPTIONS = (
    *("tokenizer", "endpoint_dialect", "api_key_variable", "request_timeout", "max_attempts"),
    *("retry_delay", "max_retry_delay"),
)
_ENGINE_OPTIONS = ("dtype", "tensor_parallel_size", "kv_cache_gib", "gpu_memory_utilization")


def _spelt(option: str) -> str:
    return "--" + option.replace("_", "-")
