"""`tools/bench train-profile`: one iteration of this trainer under torch's profiler, beside the least it could take.

The trace itself is one of `pretrain_sft --profile`, and stays in `--work`. What the profiler does on the host makes the
iteration a little longer; whether that matters is seen by the iteration before it, which is not traced.
"""

import datetime
import shlex
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from megatron_sft import cli
from megatron_sft.errors import ConfigError, EnvironmentProblem
from megatron_sft.files import write_text
from megatron_sft.workbench.bench.train import (
    BenchTrainConfig,
    all_lengths,
    choose_peers,
    find_device,
    measure,
    prepare,
)
from megatron_sft.workbench.bench.train_floor import Rates, floor
from megatron_sft.workbench.bench.train_inputs import model_geometry
from megatron_sft.workbench.bench.train_job import Job, train_options
from megatron_sft.workbench.bench.train_report import Measured, planned_precision
from megatron_sft.workbench.bench.train_trace import (
    Total,
    Trace,
    busy_seconds,
    longest_gaps,
    read_trace,
    totals_by_kind,
    totals_by_name,
)

_NAME_SHOWN = 100
_GAPS_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class BenchTrainProfileConfig:
    """Trace one iteration of this trainer and print what ran, and what it could take at least."""

    model: str = "qwen3-1.7b"
    """Geometry by name (`tools/plan` lists them; tiny), or a folder with a config.json. Weights are random."""
    peer: Literal["megatron-sft", "unpacked", "tensorwise", "delayed", "blockwise"] = "megatron-sft"
    """Which of the peers of `bench train`."""
    global_batch_size: int = 8
    """Samples of an iteration."""
    warmup: int = 3
    """Iterations before the one that is traced, at least 1."""
    mean: float = 6_500
    """Mean length of a sample, tokens."""
    longest: int = 16_384
    """No sample is longer, tokens."""
    sigma: float = 0.7
    """Spread of the logarithm of the lengths."""
    seq_length: int = 16_384
    """Capacity of a packed row, tokens."""
    precision: Literal["bf16", "fp32"] = "bf16"
    """Of weights and activations."""
    trainer_options: str = ""
    """Further options of pretrain_sft, as one word."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes a GPU when there is one."""
    top: int = 25
    """Kernels to show."""
    seed: int = 0
    """Of weights and samples."""
    work: Path | None = None
    """Folder for weights, samples and trace, kept. Default: temporary."""
    output: Path | None = None
    """Write what is printed to this file too."""

    def __post_init__(self) -> None:
        """Check what cannot work."""
        if self.warmup < 1 or self.top < 1:
            raise ConfigError(f"--warmup {self.warmup} --top {self.top}: both need at least 1")
        self.as_benchmark()

    def as_benchmark(self) -> BenchTrainConfig:
        """The options of `bench train` for the same run."""
        return BenchTrainConfig(
            model=self.model,
            peers=(self.peer,),
            global_batch_size=self.global_batch_size,
            iterations=1,
            warmup=self.warmup,
            mean=self.mean,
            longest=self.longest,
            sigma=self.sigma,
            seq_length=self.seq_length,
            padded_length=self.longest,
            precision=self.precision,
            trainer_options=self.trainer_options,
            device=self.device,
            seed=self.seed,
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the subcommand; returns the exit status."""
    command = shlex.join(["tools/bench", "train-profile", *(sys.argv[2:] if argv is None else argv)])
    return cli.run(BenchTrainProfileConfig, lambda config: run(config, command), prog="bench train-profile", argv=argv)


def run(config: BenchTrainProfileConfig, command: str) -> None:
    """Train, read the trace, print and write.

    Raises:
        EnvironmentProblem: when training fails.
    """
    benchmark, geometry = config.as_benchmark(), model_geometry(config.model)
    device = find_device(config.device)
    choose_peers(benchmark, device)
    with tempfile.TemporaryDirectory(prefix="bench-train-profile-") as temporary:
        work = config.work or Path(temporary)
        job = prepare(benchmark, geometry, work, device)
        job = replace(job, peer=config.peer, save=str(work / "profiled"), profiled=True)
        for earlier in (work / "profiled" / "tensorboard").glob("*.pt.trace.json"):
            earlier.unlink()
        measured = measure(job, benchmark, geometry)
        if measured.answer.details is None or measured.answer.problem:
            raise EnvironmentProblem(f"{config.peer}: {measured.answer.problem or 'there is no trace'}")
        [path] = Path(measured.answer.details["trace"]).glob("*.pt.trace.json")
        trace = read_trace(path)
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    versions = ", ".join(f"{name} {value}" for name, value in measured.answer.versions.items())
    lines = [f"`{command}`", date, versions, measured.answer.how, ""]
    lines += describe(trace, config.top)
    lines += ["", *describe_floor(config, job, measured, trace)]
    print("\n".join(lines), flush=True)
    if config.output:
        config.output.parent.mkdir(parents=True, exist_ok=True)
        write_text(config.output, "\n".join(lines) + "\n")


def describe(trace: Trace, top: int) -> Iterator[str]:
    """Tables of kinds and of kernels, and the gaps between kernels."""
    what = "kernels" if trace.has_device else "operators on the host, those within others too"
    busy = busy_seconds(trace.spans)
    yield (
        f"{len(trace.spans):,} {what}; busy for {busy * 1e3:.2f} ms of {trace.iteration_s * 1e3:.2f}, idle "
        f"{1 - busy / trace.iteration_s:.1%}"
    )
    yield from ("", *_table("kind", totals_by_kind(trace.spans), trace))
    names = totals_by_name(trace.spans)
    yield from ("", *_table("name", names[:top], trace))
    yield f"and {max(0, len(names) - top)} more names"
    yield from ("", "longest times in which nothing ran:")
    for seconds, before, after in longest_gaps(trace.spans, _GAPS_SHOWN):
        yield f"- {seconds * 1e3:.3f} ms between {_short(before)} and {_short(after)}"


def describe_floor(config: BenchTrainProfileConfig, job: Job, measured: Measured, trace: Trace) -> Iterator[str]:
    """The least time by arithmetic and by transfers, at the rates that this device was seen to reach."""
    details, options, step = measured.answer.details, train_options(job), measured.answer.steps[-1]
    assert details is not None
    precision = planned_precision(options)
    if precision is None:
        yield "no floor: the planner does not know this precision"
        return
    rates = Rates(tflops=details["tflops"], bandwidth=details["bandwidth"])
    lengths = all_lengths(config.as_benchmark())[-1]
    parts = floor(
        model_geometry(config.model),
        lengths,
        step.num_rows,
        rates,
        precision=precision,
        recompute=options.recompute_granularity,
    )
    yield (
        f"measured here: {rates.tflops:.1f} TFLOP/s in a large bf16 product, {rates.bandwidth / 1e12:.3f} TB/s in a "
        f"large copy, read and written; {sum(lengths)} tokens in {step.num_rows} rows, {step.places} places"
    )
    yield from ("", "| least time | amount | ms |", "|---|---:|---:|")
    for part in parts:
        yield f"| {part.name} | {part.amount} | {part.seconds * 1e3:.3f} |"
    for name, is_arithmetic in (("**arithmetic**", True), ("**transfers**", False)):
        seconds = sum(part.seconds for part in parts if part.is_arithmetic == is_arithmetic)
        yield f"| {name} | {seconds / trace.iteration_s:.1%} of the traced iteration | {seconds * 1e3:.3f} |"
    before = measured.answer.steps[-2]
    rate = before.tokens / before.seconds
    yield (
        f"\nThe traced iteration took {trace.iteration_s * 1e3:.2f} ms; the one before it, not traced, "
        f"{before.seconds * 1e3:.2f} ms for {before.tokens} tokens ({rate:,.0f} tokens/s)."
    )


def _table(title: str, totals: Sequence[Total], trace: Trace) -> Iterator[str]:
    yield from (f"| {title} | ms | of the iteration | times |", "|---|---:|---:|---:|")
    for total in totals:
        share = total.seconds / trace.iteration_s
        yield f"| {_short(total.name)} | {total.seconds * 1e3:.3f} | {share:.1%} | {total.count} |"


def _short(name: str) -> str:
    """A kernel's name without what would end a table's cell."""
    text = name.replace("|", "/").replace("\n", " ")
    return text if len(text) <= _NAME_SHOWN else f"{text[: _NAME_SHOWN - 3]}..."
