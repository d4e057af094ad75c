"""`tools/build_shards`: rows of traces become verified, tokenized shards. The work is done in Rust (`rust/core`).

Rows are JSON Lines (plain, gzip, Zstandard) or Parquet. Every row that is not kept has a line in `rejects.jsonl`, and a
bad row never ends the build. Equal inputs and options give equal bytes, whatever the number of workers and machines,
and however often the build was interrupted.
"""

import glob
import json
import os
import re
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from megatron_sft import cli
from megatron_sft._native import ChatTokenizer, build_shards, preview_shards
from megatron_sft.data import build_report, math_verify_server
from megatron_sft.errors import ConfigError

_UNITS = {"": 1, "B": 1, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30, "KB": 10**3, "MB": 10**6, "GB": 10**9}


@dataclass(frozen=True, kw_only=True)
class FilterConfig:
    """Which rows the filters drop; docs/data-layer.md explains each one. Shares are from 0 to 1."""

    think: Literal["any", "required", "none", "off"] = "any"
    """Think blocks: `any`, none or one complete block at the beginning; `required`, exactly one; `none`, no block;
    `off`, not looked at."""
    empty_answer: bool = True
    """Drop rows with nothing but white space after </think>."""
    max_loop_tokens: int | None = 512
    """Drop rows in which a piece of text is repeated for this many tokens; None for no limit."""
    max_loop_share: float | None = 0.3
    """Drop rows of which a larger share is such repetition; None for no limit."""
    max_undecodable_share: float | None = 0.001
    """Drop rows with a larger share of characters that mean nothing (U+FFFD, control, private, unassigned)."""
    allowed_scripts: tuple[str, ...] = ()
    """Unicode names of the scripts that responses may be written in, such as Latin Han; by default all."""
    max_other_script_share: float = 0.1
    """Drop rows with a larger share of letters of other scripts."""
    max_prompt_tokens: int | None = None
    """Drop rows whose rendered prompt is longer."""
    decontaminate: tuple[str, ...] = ()
    """Files of evaluation questions (JSON Lines, JSON, CSV, Parquet); rows that repeat one are dropped."""
    decontaminate_field: str | None = None
    """Field that holds the question; by default the usual names are tried."""
    decontaminate_words: int = 8
    """Length of the word sequences that are compared."""
    decontaminate_share: float = 0.5
    """Share of an evaluation question's word sequences that makes a row a repetition of it."""


@dataclass(frozen=True, kw_only=True)
class BuildShardsConfig:
    """Turn rows of traces into shards that the trainer reads.

    A row has `message` (a list of turns with role and content) or `prompt` (a string), and `response`;
    `answer` is needed for verification, `id` is a label, `query_id` says which rows answer the same query. The output
    folder is valid once it holds manifest.json; rejects.jsonl there says of every row that is not kept why.
    """

    inputs: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="INPUT...")]
    """Files of rows (.jsonl, .jsonl.gz, .jsonl.zst or .parquet), or quoted patterns; samples keep this order, a
    pattern's files are sorted by name."""
    output: Path
    """Folder for the shards."""
    tokenizer: Path
    """Folder with tokenizer.json (or tokenizer.json.gz), tokenizer_config.json and the chat template."""
    max_length: int
    """Most tokens of a sample: prompt, responses and stop tokens together."""
    over_length: Literal["reject", "truncate"] = "reject"
    """What happens to longer samples. `truncate` cuts the end of the response and with it the stop token, as the
    paper's trainer does: the model learns not to stop, so such samples are counted."""
    columns: tuple[str, ...] = ()
    """Names of the columns where they differ, as FIELD=COLUMN: message, prompt, response, answer, id, query_id."""
    train_turns: Literal["last", "all"] = "last"
    """Which assistant turns of a conversation are trained; `all` needs a template that repeats earlier turns word for
    word."""
    verify: str = "none"
    """Check the last boxed answer after the trace: `math` against a string or number by math-verify's rules,
    `countdown` against an object with numbers and target. Rows with a wrong answer are rejected."""
    math_limit: float = 10.0
    """Seconds of processor time that math-verify may take for one answer; beyond it the row is rejected as
    undecided."""
    verify_report: bool = False
    """Print who decided about the answers: proofs of the native code, math-verify, or nobody within the limit."""
    select: Literal["all", "random-correct", "first-correct", "shortest-correct"] = "all"
    """Which of several responses to a query are kept, among the rows that nothing else drops; random-correct is the
    paper's."""
    num_queries: int | None = None
    """Keep this many queries, drawn by --seed; by default all."""
    seed: int = 0
    """Seed of random-correct and --num-queries."""
    strip_think: bool = False
    """Cut the think block from every response and keep what follows it (the paper's NoCoT set)."""
    prompt_suffix: str = ""
    """Appended to the last user turn as it stands, for example $'\\nPlease reason step by step.'"""
    join: tuple[str, ...] = ()
    """Files whose responses replace those of the inputs, matched by query_id (by the prompt's text where a row has
    none): the same queries with other answers, such as the paper's NuminaMath set."""
    join_columns: tuple[str, ...] = ()
    """Names of the columns of the --join files, like --columns."""
    keep_duplicates: bool = False
    """Keep rows whose prompt and response are the same as an earlier row's."""
    near_duplicates: float | None = None
    """Drop rows whose text is at least this similar to an earlier kept row's, 0 to 1 (estimated Jaccard similarity of
    their word 5-grams; 0.8 is usual); by default rows are not compared."""
    filters: FilterConfig = field(default_factory=FilterConfig)
    """What makes a row not worth training on; each filter has its name in rejects.jsonl."""
    stop_token: str | None = None
    """Token that ends every trained response; by default the tokenizer's eos token."""
    shard_tokens: int = 256_000_000
    """A shard ends with the sample that brings it to this many tokens (4 bytes each). An interrupted build goes on
    behind its last complete shard."""
    workers: int | None = None
    """Threads; by default one for each core. Changes nothing in the output."""
    memory: str = "1GiB"
    """Memory to stay within. Changes nothing in the output, but lines of more than a 16th of it are rejected."""
    part: str | None = None
    """K/N: process only every Nth input file from the Kth on, for machines that share the output folder (a Slurm
    array, say). When all parts are done, the same command without --part makes the shards."""
    engine: Literal["local", "ray"] = "local"
    """`ray` processes the input files on a Ray cluster whose machines share the output folder."""
    overwrite: bool = False
    """Replace shards, or an unfinished build, that other inputs or options made."""
    dry_run: bool = False
    """Show the plan and the first sample, and write nothing."""


def main(config: BuildShardsConfig) -> None:
    """Build the shards, saying what is decided and what became of the rows."""
    options = build_options(config)
    tokenizer = ChatTokenizer(config.tokenizer)
    build_report.print_plan(options, config.tokenizer, tokenizer)
    if config.dry_run:
        build_report.print_preview(json.loads(preview_shards(json.dumps(options), tokenizer)))
        return
    if config.engine == "ray":
        from megatron_sft.data import build_on_ray

        build_on_ray.process_files(options, config.tokenizer)
    found = (config.output / "manifest.json").exists() and not config.overwrite
    with build_report.ProgressReport() as report:
        result: dict[str, Any] = json.loads(build_shards(json.dumps(options), tokenizer, report.update))
    if config.part is not None:
        print(f"part {config.part}: {len(result['files'])} file(s) are in {result['spool']}")
        print("when all parts are done, run the same command without --part")
        return
    if found:
        print(f"{config.output} already holds these shards (same fingerprint): kept as they are")
    build_report.print_first_sample(config.output, result, tokenizer)
    build_report.print_account(config.output, result)
    if config.verify_report:
        build_report.print_verification(result)


def build_options(config: BuildShardsConfig) -> dict[str, Any]:
    """The options in the form that the native builder takes (`BuildConfig` in `rust/core/src/config.rs`).

    Raises:
        ConfigError: for a value that cannot be read; the builder checks the rest.
    """
    if config.verify != "math" and (config.verify_report or config.math_limit != BuildShardsConfig.math_limit):
        raise ConfigError("--verify-report and --math-limit have no effect without --verify math")
    join = None
    if config.join:
        join = {"files": expand_inputs(config.join), "columns": _columns(config.join_columns, "--join-columns")}
    elif config.join_columns:
        raise ConfigError("--join-columns has no effect without --join")
    recipe = {
        "max_length": _not_negative("--max-length", config.max_length),
        "over_length": config.over_length,
        "verify": config.verify,
        "math_cpu_seconds": config.math_limit,
        "stop_token": config.stop_token,
        "seed": _not_negative("--seed", config.seed),
        "columns": _columns(config.columns, "--columns"),
        "train_turns": config.train_turns,
        "strip_think": config.strip_think,
        "prompt_suffix": config.prompt_suffix,
        "join": join,
        "select": config.select,
        "num_queries": None if config.num_queries is None else _not_negative("--num-queries", config.num_queries),
        "keep_duplicates": config.keep_duplicates,
        "near_duplicates": config.near_duplicates,
        "filters": asdict(config.filters)
        | {"decontaminate": expand_inputs(config.filters.decontaminate) if config.filters.decontaminate else []},
        "shard_tokens": _not_negative("--shard-tokens", config.shard_tokens),
    }
    workers = config.workers if config.workers is not None else os.cpu_count() or 1
    run = {
        "workers": _not_negative("--workers", workers),
        "memory_bytes": parse_size("--memory", config.memory),
        "overwrite": config.overwrite,
        "math_command": [sys.executable, *math_verify_server.COMMAND],
        "part": _part(config.part),
    }
    return {
        "inputs": expand_inputs(config.inputs),
        "output": str(config.output),
        "recipe": recipe,
        "run": run,
    }


def expand_inputs(patterns: tuple[str, ...]) -> list[str]:
    """The files that `patterns` stand for, in order; the files of one pattern are sorted by name.

    Raises:
        ConfigError: when there is no pattern, or one that matches no file.
    """
    if not patterns:
        raise ConfigError("no INPUT: name at least one .jsonl, .jsonl.gz, .jsonl.zst or .parquet file")
    files = []
    for pattern in patterns:
        # A name that exists is a file even if it contains a bracket.
        matched = [pattern] if os.path.exists(pattern) else sorted(glob.glob(pattern, recursive=True))
        if not matched:
            raise ConfigError(f"INPUT {pattern!r} matches no file; check the path (now in {os.getcwd()})")
        files += matched
    return files


def parse_size(option: str, text: str) -> int:
    """Bytes of a size such as `512MiB` or `2GB`.

    Raises:
        ConfigError: when `text` is not a size.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", text)
    if match is None or match[2].upper() not in _UNITS:
        raise ConfigError(f"{option} {text!r} is not a size; write for example 512MiB or 2GiB")
    return int(float(match[1]) * _UNITS[match[2].upper()])


def _columns(entries: tuple[str, ...], option: str) -> dict[str, str]:
    names = ("message", "prompt", "response", "answer", "id", "query_id")
    columns: dict[str, str] = {}
    for entry in entries:
        name, _, column = entry.partition("=")
        if name not in names or not column or name in columns:
            known = ", ".join(names)
            raise ConfigError(f"{option} {entry!r}: write FIELD=COLUMN, each field once, with one of {known}")
        columns[name] = column
    return columns


def _part(text: str | None) -> list[int] | None:
    if text is None:
        return None
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if match is None:
        raise ConfigError(f"--part {text!r}: write K/N, for example 3/8")
    return [int(match[1]), int(match[2])]


def _not_negative(option: str, value: int) -> int:
    if value < 0:
        raise ConfigError(f"{option} {value} is negative; use 0 or more")
    return value


if __name__ == "__main__":
    sys.exit(cli.run(BuildShardsConfig, main, prog="build_shards"))
