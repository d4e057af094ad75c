"""`tools/bench loader`: opening millions of samples, and building the rows of an iteration from them.

The shards have real index files over sparse token files, so that 10 million samples of 6,400 tokens (260 GB of ids)
take a third of a gigabyte of disk. Every id reads as 0, and the first reading of a page costs a fault, as that of a
real page from the cache does; a disk's time is not in the figures.
"""

import json
import resource
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from megatron_sft import cli
from megatron_sft.data.order import SampleOrder
from megatron_sft.data.packing import RowCost, plan_rows
from megatron_sft.data.shards import FORMAT, FORMAT_VERSION, MANIFEST_FILE, ShardReader
from megatron_sft.workbench.bench.packing import trace_lengths

SAMPLES_PER_SHARD = 1_000_000
PROMPT_TOKENS = 100


@dataclass(frozen=True, kw_only=True)
class BenchLoaderConfig:
    """Print how long shards take to open and a rank's rows to build, beside Megatron-Core's reader."""

    num_samples: int = 10_000_000
    """Samples in shards of a million."""
    global_batch_size: int = 256
    """Samples of an iteration."""
    seq_length: int = 20_480
    """Capacity of a row, tokens."""
    dp_size: int = 8
    """Data-parallel ranks; the rows of one of them are built."""
    num_iterations: int = 20
    """Iterations that are built."""
    folder: Path | None = None
    """Where the shards are written; they stay there. Default: a temporary folder."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the subcommand; returns the exit status."""
    return cli.run(BenchLoaderConfig, run, prog="bench loader", argv=argv)


def run(config: BenchLoaderConfig) -> None:
    """Write the shards and print one line per figure."""
    with tempfile.TemporaryDirectory(prefix="bench-loader-") as temporary:
        folder = config.folder or Path(temporary) / "shards"
        if not (folder / MANIFEST_FILE).exists():
            write_shards(folder, config.num_samples)
        measure(config, folder)


def measure(config: BenchLoaderConfig, folder: Path) -> None:
    """Open, order, plan and fill."""
    before = _peak_mib()
    started = time.perf_counter()
    reader = ShardReader(folder)
    num_tokens, num_trained = int(reader.lengths.sum()), int(reader.trained_tokens.sum())
    _line("open, with both tables of lengths", time.perf_counter() - started)
    print(f"  {len(reader):,} samples, {num_tokens:,} tokens, {num_trained:,} of them trained")
    print(f"  {_peak_mib() - before:.0f} MiB more than before")

    order = SampleOrder(num_samples=len(reader), global_batch_size=config.global_batch_size, shuffle=True, seed=0)
    started = time.perf_counter()
    order.batch(0)
    _line("shuffle an epoch (once an epoch)", time.perf_counter() - started)

    cost = RowCost(hidden_size=4_096)
    plan_s = fill_s = 0.0
    filled = 0
    for iteration in range(config.num_iterations):
        started = time.perf_counter()
        indices = order.batch(iteration)
        plan = plan_rows(reader.lengths[indices], config.seq_length, config.dp_size, cost, length_multiple=128)
        planned = time.perf_counter()
        for row, length in zip(plan.ranks[0], plan.row_lengths[0], strict=True):
            filled += len(reader.fill_row(indices[row], length, 1.0).tokens)
        plan_s += planned - started
        fill_s += time.perf_counter() - planned
    _line(f"plan an iteration of {config.global_batch_size} samples", plan_s / config.num_iterations)
    _line(f"fill the rows of one of {config.dp_size} ranks", fill_s / config.num_iterations)
    print(f"  {filled / fill_s / 1e6:.0f} million places a second; {filled / config.num_iterations:.0f} an iteration")
    _measure_megatron(folder)


def _measure_megatron(folder: Path) -> None:
    try:
        from megatron.core.datasets.indexed_dataset import IndexedDataset
    except ImportError as error:
        print(f"skipped: Megatron-Core's reader: {error}")
        return
    prefixes = [path.with_suffix("") for path in sorted(folder.glob("*.idx"))]
    started = time.perf_counter()
    datasets = [IndexedDataset(str(prefix)) for prefix in prefixes]
    count = sum(len(dataset.document_indices) - 1 for dataset in datasets)
    _line("open with Megatron-Core's IndexedDataset", time.perf_counter() - started)
    print(f"  {count:,} documents; it neither checks the tables nor adds lengths up per document")


def write_shards(folder: Path, num_samples: int) -> None:
    """Write shards of two sequences a sample, a prompt and a response, with zeros for ids."""
    folder.mkdir(parents=True)
    shards: list[dict[str, int]] = []
    files: dict[str, Any] = {}
    for number, start in enumerate(range(0, num_samples, SAMPLES_PER_SHARD)):
        count = min(SAMPLES_PER_SHARD, num_samples - start)
        lengths = trace_lengths(count, sigma=0.7, seed=number) + PROMPT_TOKENS
        tokens = np.empty(2 * count, dtype="<i4")
        tokens[::2], tokens[1::2] = PROMPT_TOKENS, lengths - PROMPT_TOKENS
        prefix = _prefix(number)
        _write_index(folder / f"{prefix}.idx", tokens)
        with (folder / f"{prefix}.bin").open("wb") as file:
            file.truncate(int(lengths.sum()) * 4)
        shards.append({"num_samples": count, "tokens": int(lengths.sum()), "trained_tokens": int(tokens[1::2].sum())})
        for path in (folder / f"{prefix}.idx", folder / f"{prefix}.bin"):
            files[path.name] = {"size": path.stat().st_size, "sha256": "not computed: the ids are made up"}
    totals = {name: sum(shard[name] for shard in shards) for name in ("num_samples", "tokens", "trained_tokens")}
    manifest = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "fingerprint": "made up",
        "tokenizer_fingerprint": "made up",
        "stop_id": 0,
        "vocab_size": 1,
        "shards": [{"prefix": _prefix(number), **shard} for number, shard in enumerate(shards)],
        "files": files,
        **totals,
    }
    (folder / MANIFEST_FILE).write_text(json.dumps(manifest), encoding="utf-8")


def _prefix(number: int) -> str:
    return f"samples-{number:05}"


def _write_index(path: Path, lengths: NDArray[np.int32]) -> None:
    """An index of Megatron-Core's IndexedDataset: int32 ids, two sequences a document; docs/shard-format.md."""
    num_documents = len(lengths) // 2
    pointers = np.concatenate([[0], np.cumsum(lengths[:-1], dtype="<i8")]) * 4
    with path.open("wb") as file:
        file.write(b"MMIDIDX\x00\x00" + np.uint64(1).tobytes() + b"\x04")
        file.write(np.array([len(lengths), num_documents + 1], dtype="<u8").tobytes())
        file.write(lengths.tobytes())
        file.write(pointers.astype("<i8").tobytes())
        file.write(np.arange(0, len(lengths) + 1, 2, dtype="<i8").tobytes())


def _line(what: str, seconds: float) -> None:
    print(f"{what:<46}{seconds * 1e3:>10.1f} ms", flush=True)


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
