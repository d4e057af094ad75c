"""The options of `build_dataset`."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from megatron_sft.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class TeacherOptions:
    """Who answers the queries; `generate_traces --help` explains these options. They do not change the recipe."""

    teacher: str | None = None
    """The teacher: its model folder; with --endpoint, the name that the server has for it."""
    endpoint: str | None = None
    """Address of an OpenAI-compatible server, up to and with /v1. By default vLLM runs on this machine."""
    teacher_tokenizer: Path | None = None
    """With --endpoint: folder with the teacher's tokenizer and chat template."""
    endpoint_dialect: Literal["vllm", "openai"] | None = None
    """What the server understands."""
    api_key_variable: str | None = None
    """Environment variable with the key that the server asks for."""
    max_model_len: int | None = None
    """Context length of the teacher in tokens."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] | None = None
    """Precision of the engine."""
    tensor_parallel_size: int | None = None
    """GPUs per engine."""
    data_parallel_size: int | None = None
    """Engines."""
    max_num_seqs: int | None = None
    """Most answers, or requests, at a time."""
    kv_cache_gib: float | None = None
    """Memory for the key-value cache, in GiB."""
    gpu_memory_utilization: float | None = None
    """Share of GPU memory that an engine may take."""
    request_timeout: float | None = None
    """With --endpoint: seconds that an answer may take."""
    max_attempts: int | None = None
    """With --endpoint: attempts for one answer."""

    def words(self) -> list[str]:
        """Return the options as words of `generate_traces`'s command line."""
        renamed = {"teacher": "model", "teacher_tokenizer": "tokenizer"}
        words = []
        for name, value in asdict(self).items():
            if value is not None:
                words += ["--" + renamed.get(name, name).replace("_", "-"), str(value)]
        return words


@dataclass(frozen=True, kw_only=True)
class SamplingOverrides:
    """Sampling in place of the recipe's; what differs is filed as a deviation."""

    num_samples: int | None = None
    """Answers per query. A larger number later adds to those that are there."""
    temperature: float | None = None
    """Sampling temperature."""
    top_p: float | None = None
    """Share of probability that is sampled from."""
    top_k: int | None = None
    """Number of the likeliest tokens that are sampled from; 0: all."""
    min_p: float | None = None
    """Least share of the likeliest token's probability."""
    max_tokens: int | None = None
    """Most tokens of an answer."""
    sampling_seed: int | None = None
    """Seed of the answers."""

    def given(self) -> dict[str, Any]:
        """Return what was given, by the recipe's names."""
        values = {name: value for name, value in asdict(self).items() if value is not None}
        return {("seed" if name == "sampling_seed" else name): value for name, value in values.items()}


@dataclass(frozen=True, kw_only=True)
class BuildDatasetConfig:
    """Build a data set as its recipe says: rows.parquet, shards and a data card.

    What the folder holds already is reused; an interrupted command goes on. docs/datasets.md describes recipes and
    files.
    """

    recipe: Annotated[str, tyro.conf.Positional]
    """Name of a packaged recipe (math-cot-20k, math-nocot-20k, numinamath-20k, countdown-cot-20k, deepseek-r1-20k,
    math-cot-2.5k), or a YAML file."""
    output: Path
    """Folder for the data set."""
    tokenizer: Path
    """Folder with the student's tokenizer and chat template."""
    source: tuple[str, ...] = ()
    """Where a source lies, as NAME=PATH: a file, a folder or a quoted pattern. NAME is one of the recipe's sources, or
    the name of the recipe, or of the one that it starts from, whose finished rows PATH holds. NAME=hub takes it from
    the Hugging Face hub."""
    columns: tuple[str, ...] = ()
    """Names of columns where they differ from the recipe's, as SOURCE.FIELD=COLUMN (for --traces: traces.response=...);
    a dot in COLUMN leads into a struct."""
    traces: tuple[str, ...] = ()
    """Files of traces, or quoted patterns, in place of the teacher: rows with message, response and answer."""
    teacher_options: TeacherOptions = field(default_factory=TeacherOptions)
    """Who answers."""
    sampling: SamplingOverrides = field(default_factory=SamplingOverrides)
    """How."""
    allow_failed_samples: bool = False
    """Go on where the teacher failed at samples, which are counted; they are not tried again."""
    draw_queries: int | None = None
    """Ask at most this many queries, instead of the recipe's number."""
    num_queries: int | None = None
    """Keep this many queries after verification, instead of the recipe's number."""
    expected_rows: int | None = None
    """Rows of the finished set, instead of the recipe's number: for a smaller source."""
    max_length: int | None = None
    """Most tokens of a sample, instead of the recipe's number."""
    benchmarks: tuple[str, ...] = ()
    """Files of evaluation questions as NAME=FILE; the data card says how many questions of the set repeat one."""
    workers: int | None = None
    """Threads of build_shards."""
    plan: bool = False
    """Show the stages and what would become of each, and run none."""
    overwrite: bool = False
    """Build stages again whose recipe, options or sources have changed, and what follows from them."""

    def __post_init__(self) -> None:
        """Refuse values that cannot work."""
        for name in ("draw_queries", "num_queries", "expected_rows", "max_length", "workers"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ConfigError(f"--{name.replace('_', '-')} {value}: must be positive")
        for option in ("source", "benchmarks"):
            self.pairs(option)

    def pairs(self, option: str) -> dict[str, str]:
        """Return the NAME=PATH entries of an option."""
        found: dict[str, str] = {}
        for entry in getattr(self, option):
            name, _, path = entry.partition("=")
            if not name or not path or name in found:
                raise ConfigError(f"--{option} {entry!r}: write NAME=PATH, each name once")
            found[name] = path
        return found

    def column_overrides(self) -> dict[str, dict[str, str]]:
        """Return the columns that were named, by source and field."""
        found: dict[str, dict[str, str]] = {}
        for entry in self.columns:
            target, _, column = entry.partition("=")
            # Names of sources may hold dots, as math-cot-2.5k does; names of fields do not.
            source, _, name = target.rpartition(".")
            if not source or not name or not column:
                raise ConfigError(f"--columns {entry!r}: write SOURCE.FIELD=COLUMN, such as luffy.response=target")
            found.setdefault(source, {})[name] = column
        return found
