"""`tools/build_shards`: rows of traces become verified, tokenized shards. The work is done in Rust (`rust/core`).

Rows are JSON Lines (plain or gzipped) or Parquet. Every row that is not kept has a line in `rejects.jsonl`, and a bad
row never ends the build. Equal inputs and options give equal bytes, whatever the number of workers.
"""

import glob
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from tqdm import tqdm

from megatron_sft import cli
from megatron_sft._native import build_shards
from megatron_sft.data.chat import ChatTokenizer
from megatron_sft.data.shards import MANIFEST_FILE, ShardReader
from megatron_sft.errors import ConfigError, DataError

# A shown span of a sample is cut to this many characters at each end.
_SHOWN_CHARS = 240


@dataclass(frozen=True, kw_only=True)
class BuildShardsConfig:
    """Turn rows of traces into shards that the trainer reads.

    A row has `message` (a list of turns with role and content) or `prompt` (a string), and `response`;
    `answer` is needed for verification, `id` is a label. The output folder is valid once it holds manifest.json;
    rejects.jsonl there says of every row that is not kept why.
    """

    inputs: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="INPUT...")]
    """Files of rows (.jsonl, .jsonl.gz or .parquet), or quoted patterns; samples keep this order, a pattern's files
    are sorted by name."""
    output: Path
    """Folder for the shards."""
    tokenizer: Path
    """Folder with tokenizer.json (or tokenizer.json.gz), tokenizer_config.json and the chat template."""
    max_length: int
    """Most tokens of a sample: prompt, response and stop token together. Longer rows are rejected, never cut."""
    verify: Literal["none", "math", "countdown"] = "none"
    """Check the last boxed answer after the trace: `math` against a string or number, `countdown` against an object
    with numbers and target. Rows with a wrong answer are rejected."""
    stop_token: str | None = None
    """Token that ends every trained response; by default the tokenizer's eos token."""
    workers: int | None = None
    """Threads that tokenize; by default one for each core. Changes nothing in the output."""
    seed: int = 0
    """Recorded in the manifest. No step of the build draws at random, so it changes nothing else."""
    overwrite: bool = False
    """Replace shards in the output folder that other inputs or options made."""


def main(config: BuildShardsConfig) -> None:
    """Build the shards, saying what is decided and what became of the rows."""
    inputs = expand_inputs(config.inputs)
    workers = config.workers if config.workers is not None else os.cpu_count() or 1
    tokenizer = ChatTokenizer(config.tokenizer)
    _print_plan(config, inputs, workers, tokenizer)
    found = (config.output / MANIFEST_FILE).exists() and not config.overwrite
    manifest = _build(config, inputs, workers)
    if found:
        print(f"{config.output} already holds these shards (same fingerprint): kept as they are")
    reader = ShardReader(config.output)
    _print_sample(reader, tokenizer)
    _print_account(config.output, manifest)


def expand_inputs(patterns: tuple[str, ...]) -> list[str]:
    """The files that `patterns` stand for, in order; the files of one pattern are sorted by name.

    Raises:
        ConfigError: when there is no pattern, or one that matches no file.
    """
    if not patterns:
        raise ConfigError("no INPUT: name at least one .jsonl, .jsonl.gz or .parquet file")
    files = []
    for pattern in patterns:
        # A name that exists is a file even if it contains a bracket.
        matched = [pattern] if os.path.exists(pattern) else sorted(glob.glob(pattern, recursive=True))
        if not matched:
            raise ConfigError(f"INPUT {pattern!r} matches no file; check the path (now in {os.getcwd()})")
        files += matched
    return files


def _build(config: BuildShardsConfig, inputs: list[str], workers: int) -> dict[str, Any]:
    options = {
        "inputs": inputs,
        "output": str(config.output),
        "tokenizer": str(config.tokenizer),
        "max_length": _not_negative("--max-length", config.max_length),
        "verify": config.verify,
        "stop_token": config.stop_token,
        "workers": _not_negative("--workers", workers),
        "seed": _not_negative("--seed", config.seed),
        "overwrite": config.overwrite,
    }
    with _ProgressBar() as bar:
        manifest = json.loads(build_shards(json.dumps(options), bar.update))
    if not isinstance(manifest, dict):
        raise DataError(f"{config.output / MANIFEST_FILE}: not an object")
    return manifest


def _not_negative(option: str, value: int) -> int:
    if value < 0:
        raise ConfigError(f"{option} {value} is negative; use 0 or more")
    return value


class _ProgressBar:
    """A tqdm bar on a terminal, else a plain line at every tenth of the input."""

    def __enter__(self) -> "_ProgressBar":
        self._bar = tqdm(unit="B", unit_scale=True, disable=not sys.stderr.isatty())
        self._next_tenth = 1
        return self

    def __exit__(self, *_exception: object) -> None:
        self._bar.close()

    def update(self, done: int, total: int) -> None:
        """`done` of `total` bytes of input are in the shards or rejected."""
        if not self._bar.disable:
            self._bar.total = total
            self._bar.update(done - self._bar.n)
        elif done * 10 >= total * self._next_tenth:
            print(f"{done / max(total, 1):.0%} of {total} input bytes", flush=True)
            self._next_tenth = done * 10 // max(total, 1) + 1


def _print_plan(config: BuildShardsConfig, inputs: list[str], workers: int, tokenizer: ChatTokenizer) -> None:
    if config.stop_token is None:
        stop = f"{tokenizer.eos_token!r} (id {tokenizer.eos_id}, the eos_token of tokenizer_config.json)"
    else:
        stop = f"{config.stop_token!r} (from --stop-token)"
    print(f"inputs       {len(inputs)} file(s): {', '.join(inputs[:3])}{', ...' if len(inputs) > 3 else ''}")
    print(f"tokenizer    {config.tokenizer}: {tokenizer.vocab_size} ids, fingerprint {tokenizer.fingerprint[:16]}")
    print(f"template     {tokenizer.template_source}")
    print(f"stop token   {stop}")
    print(f"over length  rejected when above {config.max_length} tokens")
    print(f"verify       {config.verify}")
    print(f"workers      {workers}{'' if config.workers is not None else ' (one for each core)'}", flush=True)


def _print_sample(reader: ShardReader, tokenizer: ChatTokenizer) -> None:
    """Show sample 0 as it stands in the shards, each span with its kind."""
    sample = reader.sample(0)
    boundaries = [0, *(i for i in range(1, len(sample.trained)) if sample.trained[i] != sample.trained[i - 1])]
    print("sample 0, read back from the shards:")
    for start, end in zip(boundaries, [*boundaries[1:], len(sample.tokens)], strict=True):
        kind = "trained" if sample.trained[start] else "masked "
        text = repr(tokenizer.decode(sample.tokens[start:end].tolist()))
        if len(text) > 2 * _SHOWN_CHARS:
            text = f"{text[:_SHOWN_CHARS]} ... {text[-_SHOWN_CHARS:]}"
        print(f"  {kind} {end - start:6d} tokens  {text}")


def _print_account(output: Path, manifest: dict[str, Any]) -> None:
    counts, lengths = manifest["counts"], manifest["lengths"]
    print(f"rows         {counts['rows_read']} read = {counts['rows_kept']} kept + {counts['rows_rejected']} rejected")
    for reason, count in counts["rejected_by_reason"].items():
        print(f"  rejected   {count:8d} {reason}")
    if counts["blank_lines"]:
        print(f"blank lines  {counts['blank_lines']} skipped")
    if counts["stop_inside_response"]:
        print(f"warning      {counts['stop_inside_response']} response(s) contain the stop token before their end")
    print(f"tokens       {manifest['tokens']}, of these trained {manifest['trained_tokens']}")
    print(f"lengths      {lengths['min']} to {lengths['max']} tokens")
    print(f"fingerprint  {manifest['fingerprint']}")
    print(f"shards       {output}")


if __name__ == "__main__":
    sys.exit(cli.run(BuildShardsConfig, main, prog="build_shards"))
