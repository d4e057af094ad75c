"""What `build_shards` says: the plan, how far it is, the first sample, and what became of the rows."""

import json
import sys
import time
from pathlib import Path
from typing import Any

from megatron_sft._native import ChatTokenizer, show_sample

_LINE_INTERVAL_S = 10.0
# A shown span of a sample is cut to this many characters at each end.
_SHOWN_CHARS = 240


def print_plan(options: dict[str, Any], folder: Path, tokenizer: ChatTokenizer) -> None:
    """Print what the build will do; `options` as `build_shards.build_options` makes them."""
    recipe, run, inputs = options["recipe"], options["run"], options["inputs"]
    if recipe["stop_token"] is None:
        stop = f"{tokenizer.eos_token!r} (id {tokenizer.eos_id}, the eos_token of tokenizer_config.json)"
    else:
        stop = f"{recipe['stop_token']!r} (from --stop-token)"
    print(f"inputs       {len(inputs)} file(s): {', '.join(inputs[:3])}{', ...' if len(inputs) > 3 else ''}")
    print(f"tokenizer    {folder}: {tokenizer.vocab_size} ids, fingerprint {tokenizer.fingerprint[:16]}")
    print(f"template     {tokenizer.template_source}")
    print(f"stop token   {stop}")
    print(f"over length  {recipe['over_length']} above {recipe['max_length']} tokens")
    print(f"verify       {recipe['verify']}")
    print(f"select       {recipe['select']}{_queries(recipe)}")
    transforms = [name for name in ("strip_think", "prompt_suffix", "join") if recipe[name]]
    print(f"transforms   {', '.join(transforms) or 'none'}")
    print(f"duplicates   {'kept' if recipe['keep_duplicates'] else 'dropped'}")
    print(f"workers      {run['workers']}, memory {run['memory_bytes'] >> 20} MiB", flush=True)


def _queries(recipe: dict[str, Any]) -> str:
    wanted = recipe["num_queries"]
    return "" if wanted is None else f", {wanted} queries drawn with seed {recipe['seed']}"


class ProgressReport:
    """One line that is rewritten on a terminal; elsewhere a plain line every ten seconds."""

    def __init__(self) -> None:
        """Start the clock."""
        self._terminal = sys.stderr.isatty()
        self._start = time.monotonic()
        self._stage_start = self._start
        self._stage: str | None = None
        self._next_line = self._start + _LINE_INTERVAL_S
        self._width = 0

    def __enter__(self) -> "ProgressReport":
        """Nothing is shown before the first update."""
        return self

    def __exit__(self, *_exception: object) -> None:
        """End the line on a terminal."""
        if self._terminal and self._width:
            print(file=sys.stderr)

    def update(self, status_json: str) -> None:
        """Show a status (`Status` in `rust/core/src/build/sink.rs`)."""
        now = time.monotonic()
        if not self._terminal and now < self._next_line:
            return
        self._next_line = now + _LINE_INTERVAL_S
        status = json.loads(status_json)
        if status["stage"] != self._stage:
            self._stage_start = now if self._stage is not None else self._start
            self._stage = status["stage"]
        text = describe_status(status, now - self._stage_start)
        if self._terminal:
            print("\r" + text.ljust(self._width), end="", file=sys.stderr, flush=True)
            self._width = len(text)
        else:
            print(text, flush=True)


def describe_status(status: dict[str, Any], seconds: float) -> str:
    """One line: share done, rows, tokens, speed, what was dropped, time left."""
    done, total = status["bytes_done"], max(status["bytes_total"], 1)
    speed = done / max(seconds, 1e-9)
    dropped = ", ".join(f"{count} {reason}" for reason, count in sorted(status["rejected"].items()))
    left = f", {(total - done) / speed:.0f} s left" if 0 < done < total and seconds > 1 else ""
    return (
        f"{status['stage']} {done / total:4.0%} | {status['rows']} rows, {status['kept']} kept, "
        f"{status['tokens'] / 1e6:.1f} M tokens | {speed / 1e6:.1f} MB/s{left} | dropped: {dropped or 'none'}"
    )


def print_preview(preview: dict[str, Any]) -> None:
    """Show what `--dry-run` found."""
    print(f"input        {preview['input_bytes'] / 1e6:.1f} MB")
    print(f"fingerprint  {preview['fingerprint']}")
    if preview["sample"] is None:
        print(f"none of the {preview['rows']} rows would be kept")
        return
    print(f"first sample (after {preview['rows']} row(s)); nothing was written:")
    for sequence in preview["sample"]:
        _print_span(sequence["trained"], sequence["tokens"], sequence["text"])


def print_first_sample(output: Path, manifest: dict[str, Any], tokenizer: ChatTokenizer) -> None:
    """Show sample 0 as it stands in the shards, each span with its kind."""
    prefixes = [shard["prefix"] for shard in manifest["shards"]]
    print("sample 0, read back from the shards:")
    for sequence in json.loads(show_sample(output, prefixes[:1], tokenizer, 0)):
        _print_span(sequence["trained"], sequence["tokens"], sequence["text"])


def _print_span(trained: bool, tokens: int, text: str) -> None:
    shown = repr(text)
    if len(shown) > 2 * _SHOWN_CHARS:
        shown = f"{shown[:_SHOWN_CHARS]} ... {shown[-_SHOWN_CHARS:]}"
    print(f"  {'trained' if trained else 'masked '} {tokens:6d} tokens  {shown}")


def print_account(output: Path, manifest: dict[str, Any]) -> None:
    """Print what became of the rows."""
    counts, lengths = manifest["counts"], manifest["lengths"]
    print(f"rows         {counts['rows_read']} read = {counts['rows_kept']} kept + {counts['rows_rejected']} rejected")
    for reason, count in counts["rejected_by_reason"].items():
        print(f"  rejected   {count:8d} {reason}")
    if counts["blank_lines"]:
        print(f"blank lines  {counts['blank_lines']} skipped")
    for name, notice in manifest["notices"].items():
        print(f"notice       {notice['count']} kept row(s): {name} (first: {notice['first']})")
    print(f"tokens       {manifest['tokens']}, of these trained {manifest['trained_tokens']}")
    print(f"lengths      {lengths['min']} to {lengths['max']} tokens")
    print(f"fingerprint  {manifest['fingerprint']}")
    print(f"shards       {len(manifest['shards'])} in {output}")


def print_verification(manifest: dict[str, Any]) -> None:
    """Print who decided about the answers."""
    verification = manifest["verification"]
    total = sum(verification.values())
    print(f"answers      {total} compared with the known one")
    for name, count in sorted(verification.items(), key=lambda entry: -entry[1]):
        print(f"  {count:8d} {count / total:6.1%} {name.replace('_', ' ')}")
