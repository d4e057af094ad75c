"""`tools/inspect_shards`: what a shard folder holds, what a sample looks like, whether files are whole, what differs.

All text that comes from the folder is neutralised before it is printed: traces may hold escape sequences.
"""

import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from numpy.typing import NDArray

from megatron_sft import cli
from megatron_sft.data.chat import ChatTokenizer
from megatron_sft.data.safe_text import neutralise
from megatron_sft.data.sample_view import COLOURS, NAMES, RESET, shows_colours, spans
from megatron_sft.data.shard_checks import Finding, check_files, compare_manifests, first_difference, read_manifest
from megatron_sft.data.shards import Sample, ShardReader
from megatron_sft.errors import ConfigError

_BAR_WIDTH = 40
_NUM_BUCKETS = 16
# Rows of a list in the manifest that are shown: there may be thousands of input files.
_SHOWN_ROWS = 20


@dataclass(frozen=True, kw_only=True)
class InspectShardsConfig:
    """Show what a shard folder holds. Ends with status 1 where --verify finds damage or --compare a difference."""

    folder: Annotated[Path, tyro.conf.Positional]
    """Shard folder, as tools/build_shards wrote it."""
    sample: int | None = None
    """Show this sample, counted from 0: masked and trained tokens in two colours, or apart where there are none."""
    tokenizer: Path | None = None
    """Folder of the tokenizer that the shards were made with; --sample needs it, --compare shows text with it."""
    tokens: Literal["text", "boundaries", "ids"] = "text"
    """How --sample shows tokens: as running text, with a bar between tokens, or one a line with position and id."""
    color: bool = False
    """Colours also where the output is no terminal."""
    verify: bool = False
    """Compare every file with its size and sha256 in the manifest."""
    compare: Path | None = None
    """Another shard folder: say what differs in configuration, counts, files, and the first differing token."""

    def __post_init__(self) -> None:
        """Refuse options without effect."""
        if self.sample is not None and self.tokenizer is None:
            raise ConfigError("--sample needs --tokenizer: the folder of the tokenizer that the shards were made with")
        if self.tokenizer is not None and self.sample is None and self.compare is None:
            raise ConfigError("--tokenizer has no effect without --sample or --compare")
        if self.sample is None and self.tokens != "text":
            raise ConfigError(f"--tokens {self.tokens} has no effect without --sample")
        if self.sample is None and self.color:
            raise ConfigError("--color has no effect without --sample")


def main(config: InspectShardsConfig) -> None:
    """Do what the options ask; without one, print the manifest and the lengths."""
    damaged = config.verify and not _verify(config.folder)
    if damaged:
        raise SystemExit(1)
    if config.sample is not None:
        _print_sample(config)
    differs = config.compare is not None and not _compare(config, config.compare)
    if config.sample is None and config.compare is None:
        _print_folder(config.folder)
    if differs:
        raise SystemExit(1)


# ---- the manifest ----


def _print_folder(folder: Path) -> None:
    reader = ShardReader(folder)
    trained, tokens = int(reader.trained_tokens.sum()), int(reader.lengths.sum())
    print(f"folder       {neutralise(str(folder))}")
    print(f"samples      {reader.num_samples}")
    print(f"tokens       {tokens}, of these trained {trained} ({trained / max(tokens, 1):.1%})")
    for title, lengths in (("lengths", reader.lengths), ("trained", reader.trained_tokens)):
        quantiles = [int(np.quantile(lengths, share)) for share in (0, 0.5, 0.9, 0.99, 1)]
        print(
            f"{title:12s} mean {lengths.mean():.0f}, shortest {quantiles[0]}, median {quantiles[1]}, "
            f"90 % {quantiles[2]}, 99 % {quantiles[3]}, longest {quantiles[4]} tokens a sample"
        )
    print(*_histogram(reader.lengths), sep="\n")
    print("manifest")
    print(*_described(reader.manifest, "  "), sep="\n")


def _histogram(lengths: NDArray[np.int64]) -> Iterator[str]:
    """A line with a bar for each range of lengths; the longest bar is the fullest range."""
    # A round width: 1, 2 or 5 times a power of ten.
    least = max(int(lengths.max()), 1) / _NUM_BUCKETS
    width = next(unit * 10**power for power in range(20) for unit in (1, 2, 5) if unit * 10**power >= least)
    counts = np.bincount((np.maximum(lengths, 1) - 1) // width)
    for index, count in enumerate(counts.tolist()):
        bar = "█" * round(_BAR_WIDTH * count / int(counts.max())) or ("▏" if count else "")
        yield f"  {index * width + 1:8d} to {(index + 1) * width:8d}  {count:9d} {bar}".rstrip()


def _described(value: dict[str, Any], indent: str) -> Iterator[str]:
    """Lines for any JSON object, known or not: nested ones indented, lists of objects as tables."""
    width = max((len(key) for key, content in value.items() if not isinstance(content, dict)), default=0)
    for key, content in value.items():
        name = neutralise(key)
        entries = content.values() if isinstance(content, dict) else content if isinstance(content, list) else []
        if entries and all(isinstance(entry, dict) for entry in entries):
            yield f"{indent}{name}"
            named = [{"": name} | row for name, row in content.items()] if isinstance(content, dict) else content
            yield from _table(named, indent + "  ")
        elif isinstance(content, dict):
            yield f"{indent}{name}"
            yield from _described(content, indent + "  ")
        else:
            yield f"{indent}{name:{width}s}  {_one_line(content)}"


def _table(rows: list[dict[str, Any]], indent: str) -> Iterator[str]:
    keys = list(dict.fromkeys(key for row in rows[:_SHOWN_ROWS] for key in row))
    cells = [[neutralise(key) for key in keys]]
    cells += [[_one_line(row.get(key, "")) for key in keys] for row in rows[:_SHOWN_ROWS]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(keys))]
    for row in cells:
        yield indent + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    if len(rows) > _SHOWN_ROWS:
        yield f"{indent}... and {len(rows) - _SHOWN_ROWS} more"


def _one_line(value: object) -> str:
    if isinstance(value, list) and len(value) > _SHOWN_ROWS:
        return f"{_one_line(value[:_SHOWN_ROWS])} ... ({len(value)} entries)"
    return neutralise(value if isinstance(value, str) else str(value))


# ---- one sample ----


def _print_sample(config: InspectShardsConfig) -> None:
    assert config.sample is not None and config.tokenizer is not None
    reader, tokenizer = ShardReader(config.folder), _matching_tokenizer(config.folder, config.tokenizer)
    if not 0 <= config.sample < reader.num_samples:
        raise ConfigError(f"--sample {config.sample}: the samples are 0 to {reader.num_samples - 1}")
    sample = reader.sample(config.sample)
    trained = int(sample.trained.sum())
    print(f"sample {config.sample} of {reader.num_samples}: {len(sample.tokens)} tokens, of these trained {trained}")
    coloured = config.color or shows_colours(sys.stdout)
    if coloured:
        print("  ".join(f"{COLOURS[flag]}{NAMES[flag]}{RESET}" for flag in (False, True)))
    show = _show_ids if config.tokens == "ids" else _show_text
    show(sample, tokenizer, coloured, "│" if config.tokens == "boundaries" else "")


def _matching_tokenizer(folder: Path, tokenizer_folder: Path) -> ChatTokenizer:
    """The tokenizer, refused unless the shards were made with it."""
    tokenizer, expected = ChatTokenizer(tokenizer_folder), read_manifest(folder).get("tokenizer_fingerprint")
    if tokenizer.fingerprint != expected:
        raise ConfigError(
            f"--tokenizer {tokenizer_folder} has fingerprint {tokenizer.fingerprint[:16]}, but {folder} was made with "
            f"{str(expected)[:16]}; give the tokenizer folder that the shards were built with"
        )
    return tokenizer


def _show_text(sample: Sample, tokenizer: ChatTokenizer, coloured: bool, boundary: str) -> None:
    """Print each span; where colours cannot tell them apart, text stands indented below a line that names its kind."""
    for start, end, trained in spans(sample):
        ids = sample.tokens[start:end].tolist()
        # With boundaries, a character that is cut over several tokens shows as replacement characters.
        text = boundary.join(tokenizer.decode([token]) for token in ids) if boundary else tokenizer.decode(ids)
        if coloured:
            shown = neutralise(text, keep="\n\t", before="\x1b[7m", after="\x1b[27m")
            # Each line is coloured by itself, for pagers that forget colours at a line's end.
            print("\n".join(f"{COLOURS[trained]}{line}{RESET}" for line in shown.split("\n")), end="")
        else:
            print(f"[{NAMES[trained]}, {end - start} tokens]")
            print("\n".join(f"  {line}" for line in neutralise(text, keep="\n\t").split("\n")))
    if coloured:
        print()


def _show_ids(sample: Sample, tokenizer: ChatTokenizer, coloured: bool, _boundary: str) -> None:
    """Print one token a line: its position in the sample, its id, its kind and its text."""
    flags = sample.trained.tolist()
    for position, (token, trained) in enumerate(zip(sample.tokens.tolist(), flags, strict=True)):
        line = f"{position:7d} {token:8d} {NAMES[bool(trained)]:7s} {neutralise(tokenizer.decode([token]))}"
        print(f"{COLOURS[bool(trained)]}{line}{RESET}" if coloured else line)


# ---- whole files, equal folders ----


def _verify(folder: Path) -> bool:
    """Print a line for each file of the manifest, and whether all are as they were written."""
    findings = list(check_files(folder, read_manifest(folder)))
    for finding in findings:
        print(f"{'damaged' if finding.problem else 'ok':8s} {neutralise(str(finding.path))}{_problem(finding)}")
    num_damaged = sum(bool(finding.problem) for finding in findings)
    print(f"verified     {len(findings)} file(s), {num_damaged} damaged")
    if num_damaged == 0:
        # Files as the manifest says may still contradict each other.
        ShardReader(folder)
        return True
    print(f"damaged: {', '.join(neutralise(f.path.name) for f in findings if f.problem)}; build the shards again")
    return False


def _problem(finding: Finding) -> str:
    return f": {finding.problem}" if finding.problem else ""


def _compare(config: InspectShardsConfig, other: Path) -> bool:
    """Print what differs between two folders, and whether nothing does."""
    readers = ShardReader(config.folder), ShardReader(other)
    tokenizer = None if config.tokenizer is None else _matching_tokenizer(config.folder, config.tokenizer)
    print(f"a            {neutralise(str(config.folder))}\nb            {neutralise(str(other))}")
    differences = list(compare_manifests(readers[0].manifest, readers[1].manifest))
    for difference in differences:
        print(f"{_one_line(difference.key)}\n  a: {_one_line(difference.left)}\n  b: {_one_line(difference.right)}")
    place = first_difference(*readers)
    if place is None:
        print("samples      equal, token for token")
    else:
        print(f"samples      first difference: sample {place.sample}, token {place.token}")
        for name, reader in zip("ab", readers, strict=True):
            print(f"  {name}: {_token_text(reader, place.sample, place.token, tokenizer)}")
    print(f"verdict      {'equal' if place is None and not differences else 'different'}")
    return place is None and not differences


def _token_text(reader: ShardReader, index: int, position: int, tokenizer: ChatTokenizer | None) -> str:
    if index >= reader.num_samples:
        return f"has no sample {index}"
    sample = reader.sample(index)
    if position >= len(sample.tokens):
        return f"ends after {len(sample.tokens)} tokens"
    token, kind = int(sample.tokens[position]), NAMES[bool(sample.trained[position])]
    # The other folder may have been made with another tokenizer: its ids alone say something then.
    known = tokenizer is not None and tokenizer.fingerprint == reader.tokenizer_fingerprint
    text = f", {neutralise(repr(tokenizer.decode([token])))}" if tokenizer is not None and known else ""
    return f"id {token}, {kind}{text}"


if __name__ == "__main__":
    # Ends quietly when a pager or `head` has seen enough.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    # A terminal that cannot show a character gets its escape instead of an error.
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    sys.exit(cli.run(InspectShardsConfig, main, prog="inspect_shards"))
