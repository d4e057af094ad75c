"""`tools/bench packing`: how well and how fast samples are packed, beside next fit and, where installed, TRL's packing.

Lengths are drawn from a log-normal distribution; what is above the longest sample is drawn again. Fill is real tokens /
(rows x seq_length), before rows are added to make their number a multiple of the ranks. The second table has what the
trainer then makes of it: rows for all ranks, no longer than needed.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from megatron_sft import cli
from megatron_sft.data.packing import RowCost, pack_rows, plan_rows
from megatron_sft.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class BenchPackingConfig:
    """Print how many rows packing needs, what it costs, and how even the work of data-parallel ranks is."""

    seq_length: int = 20_480
    """Capacity of a row, tokens."""
    mean: float = 6_400
    """Mean length of a sample, tokens."""
    longest: int = 16_384
    """No sample is longer, tokens."""
    sigmas: tuple[float, ...] = (0.6, 0.7, 0.8)
    """Spreads of the logarithm of the lengths."""
    num_samples: int = 1_000_000
    """Samples packed at once, and a tenth of them too."""
    batch_size: int = 256
    """Samples of a global batch."""
    num_batches: int = 80
    """Global batches."""
    dp_sizes: tuple[int, ...] = (1, 4, 8, 16, 32, 64)
    """Numbers of data-parallel ranks that a batch is dealt to."""
    padded_length: int = 20_000
    """Length that the paper's trainer pads every sample to, tokens."""
    hidden_size: int = 4_096
    """Width of the model, for the cost of attention."""
    seed: int = 0
    """Seed of the lengths."""

    def __post_init__(self) -> None:
        """Refuse lengths that no row holds."""
        if not 1 <= self.mean < self.longest <= self.seq_length:
            raise ConfigError("--mean must be below --longest, and that at most --seq-length")


@dataclass(frozen=True, kw_only=True)
class Packer:
    """A way of packing."""

    name: str
    """Shown in the table."""
    num_rows: Callable[[NDArray[np.int64], int], int]
    """Number of rows for these lengths and this capacity."""
    max_tokens: float = float("inf")
    """Left out above so many tokens at once, for memory."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the subcommand; returns the exit status."""
    return cli.run(BenchPackingConfig, run, prog="bench packing", argv=argv)


def run(config: BenchPackingConfig) -> None:
    """Print one table per spread."""
    packers, skipped = find_packers()
    for sigma in config.sigmas:
        lengths = trace_lengths(
            max(config.num_samples, config.batch_size * config.num_batches),
            sigma=sigma,
            mean=config.mean,
            longest=config.longest,
            seed=config.seed,
        )
        print(
            f"\nlog-normal, sigma {sigma}, mean {lengths.mean():.0f}, longest {lengths.max()}, drawn again when longer"
        )
        print(f"{'packer':<28}{'samples':>12}{'rows':>10}{'fill':>9}{'bound':>9}{'cpu-s':>10}")
        for packer in packers:
            for num_samples in (config.num_samples, config.num_samples // 10):
                measure(packer, config, lengths[:num_samples], num_samples)
            measure(packer, config, lengths[: config.batch_size * config.num_batches], config.batch_size)
        measure_plans(config, lengths)
    for reason in skipped:
        print(f"skipped: {reason}")


def measure(packer: Packer, config: BenchPackingConfig, lengths: NDArray[np.int64], batch_size: int) -> None:
    """Print the line of one packer that packs `batch_size` samples at a time."""
    batches = [lengths[start : start + batch_size] for start in range(0, len(lengths), batch_size)]
    count = f"{batch_size:,}" if len(batches) == 1 else f"{len(batches)} x {batch_size}"
    if batches[0].sum() > packer.max_tokens:
        print(f"{packer.name:<28}{count:>12}  skipped: more than {packer.max_tokens:.0e} tokens at once")
        return
    start = time.process_time()
    num_rows = sum(packer.num_rows(batch, config.seq_length) for batch in batches)
    seconds = time.process_time() - start
    fewest = sum(-(-int(batch.sum()) // config.seq_length) for batch in batches)
    fill, bound = (lengths.sum() / (rows * config.seq_length) for rows in (num_rows, fewest))
    print(f"{packer.name:<28}{count:>12}{num_rows:>10,}{fill:>9.2%}{bound:>9.2%}{seconds:>10.3f}", flush=True)


def measure_plans(config: BenchPackingConfig, lengths: NDArray[np.int64]) -> None:
    """Print what the trainer computes over numbers of data-parallel ranks, beside a trainer that pads every sample."""
    cost = RowCost(hidden_size=config.hidden_size)
    batches = lengths[: config.batch_size * config.num_batches].reshape(config.num_batches, -1)
    print(
        f"\n{len(batches)} batches of {config.batch_size} as the trainer plans them, hidden size {config.hidden_size}"
    )
    print(f"{'ranks':>16}{'rows a rank':>13}{'row lengths':>15}{'real':>9}{'largest / mean cost':>22}{'cpu-ms':>8}")
    padded = len(lengths[: batches.size]) * config.padded_length
    print(f"{'every sample padded to ' + format(config.padded_length, ','):<44}{batches.sum() / padded:>9.2%}")
    for dp_size in config.dp_sizes:
        start = time.process_time()
        plans = [plan_rows(batch, config.seq_length, dp_size, cost, length_multiple=128) for batch in batches]
        milliseconds = (time.process_time() - start) / len(batches) * 1e3
        row_lengths = [length for plan in plans for lengths in plan.row_lengths for length in lengths]
        computed = sum(plan.num_places for plan in plans)
        totals = [
            [sum(cost(batch[row].tolist()) for row in rank) for rank in plan.ranks]
            for plan, batch in zip(plans, batches, strict=True)
        ]
        ratios = [max(ranks) * len(ranks) / sum(ranks) for ranks in totals]
        rows = [len(plan.ranks[0]) for plan in plans]
        balance = f"{np.mean(ratios):.4f}, worst {max(ratios):.4f}"
        print(
            f"{dp_size:>16}{f'{min(rows)} to {max(rows)}':>13}{f'{min(row_lengths)}-{max(row_lengths)}':>15}"
            f"{batches.sum() / computed:>9.2%}{balance:>22}{milliseconds:>8.1f}",
            flush=True,
        )


def trace_lengths(
    num_samples: int, *, sigma: float, mean: float = 6_400, longest: int = 16_384, seed: int = 0
) -> NDArray[np.int64]:
    """Lengths that look like those of reasoning traces, int64[num_samples].

    Log-normal with spread `sigma` of the logarithm; what is below 1 or above `longest` tokens is drawn again, and the
    location is chosen so that the mean of what remains is `mean`.
    """
    normal = np.random.Generator(np.random.PCG64(seed)).standard_normal(2 * num_samples + 10_000)

    def draw(location: float) -> NDArray[np.int64]:
        lengths: NDArray[np.int64] = np.rint(np.exp(location + sigma * normal)).astype(np.int64)
        return lengths[(lengths >= 1) & (lengths <= longest)]

    low, high = 0.0, float(np.log(longest)) + 5
    for _ in range(50):
        middle = (low + high) / 2
        lengths = draw(middle)
        # With too few lengths left, the location is too far to the right.
        too_low = len(lengths) >= num_samples and lengths.mean() < mean
        low, high = (middle, high) if too_low else (low, middle)
    lengths = draw(low)[:num_samples]
    if abs(lengths.mean() / mean - 1) > 0.05:
        raise ConfigError(f"no log-normal lengths of spread {sigma} up to {longest} have a mean of {mean}")
    return lengths


def find_packers() -> tuple[list[Packer], list[str]]:
    """The packers to compare, and why others are left out."""
    packers = [
        Packer(name="megatron-sft", num_rows=lambda lengths, capacity: len(pack_rows(lengths, capacity))),
        Packer(name="next fit", num_rows=next_fit),
    ]
    try:
        packers.insert(1, trl_packer())
    except ImportError as error:
        return packers, [f"TRL's best fit decreasing: {error}"]
    return packers, []


def next_fit(lengths: NDArray[np.int64], capacity: int) -> int:
    """Rows when each sample goes to the last row or, without room there, to a new one."""
    num_rows, room = 0, 0
    for length in lengths.tolist():
        if length > room:
            num_rows, room = num_rows + 1, capacity
        room -= length
    return num_rows


def trl_packer() -> Packer:
    """`trl.pack_dataset` with its strategy "bfd", given all samples at once.

    It moves the ids together with the choice of rows, so its time includes that, with ids of one byte.

    Raises:
        ImportError: when trl or what it needs is not installed.
    """
    import datasets
    import pyarrow
    import trl

    datasets.disable_progress_bars()

    def num_rows(lengths: NDArray[np.int64], capacity: int) -> int:
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        column = pyarrow.LargeListArray.from_arrays(offsets, pyarrow.array(np.zeros(offsets[-1], dtype=np.int8)))
        dataset = datasets.Dataset(pyarrow.table({"input_ids": column}))
        options = {"batch_size": len(lengths), "keep_in_memory": True}
        return len(trl.pack_dataset(dataset, capacity, strategy="bfd", map_kwargs=options))

    return Packer(name=f"trl {trl.__version__} bfd", num_rows=num_rows, max_tokens=1e9)
