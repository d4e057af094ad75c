"""`tools/bench train`: what users get from this trainer and from others, on the same samples and weights.

| peer | what it is |
|---|---|
| `padded` | transformers, samples padded to the longest of their micro-batch |
| `padded-fixed` | transformers, every sample padded to `--padded-length`, as the paper's trainer does |
| `packed` | transformers, packed rows without padding, as TRL packs |
| `unpacked` | this trainer, a sample a row |
| `megatron-sft` | this trainer |
| `tensorwise`, `delayed`, `blockwise` | this trainer with that FP8 recipe |

Each runs in a process of its own, one after the other. All start from the same weights and train the same samples in
the same iterations, so that losses and gradient norms of the first iteration must agree: a peer whose do not computes
something else, and its speed says nothing. Real tokens count, padding does not; MFU is that of `model/flops.py`, with
the attention of the real lengths, over the bf16 peak whatever the precision.
"""

import datetime
import importlib.util
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from megatron_sft import cli
from megatron_sft.errors import ConfigError, EnvironmentProblem
from megatron_sft.files import write_json, write_text
from megatron_sft.model.geometry import ModelGeometry
from megatron_sft.workbench.bench.train_inputs import (
    Profile,
    batch_lengths,
    model_geometry,
    write_config,
    write_samples,
)
from megatron_sft.workbench.bench.train_job import (
    FP8_PEERS,
    PEERS,
    TRANSFORMERS_PEERS,
    Answer,
    Job,
    Peer,
    train_options,
)
from megatron_sft.workbench.bench.train_report import Measured, disagreements, planned_bytes, report

_OUTPUT_SHOWN = 3000


@dataclass(frozen=True, kw_only=True)
class BenchTrainConfig:
    """Train some iterations with this trainer and with others, and print a table."""

    model: str = "qwen3-1.7b"
    """Geometry by name (`tools/plan` lists them; tiny), or a folder with a config.json. Weights are random."""
    peers: tuple[Peer, ...] = ()
    """What to measure. Default: everything that can run here."""
    global_batch_size: int = 16
    """Samples of an iteration."""
    iterations: int = 3
    """Measured iterations."""
    warmup: int = 2
    """Iterations before them."""
    mean: float = 6_500
    """Mean length of a sample, tokens."""
    longest: int = 16_384
    """No sample is longer, tokens."""
    sigma: float = 0.7
    """Spread of the logarithm of the lengths."""
    seq_length: int = 16_384
    """Capacity of a packed row, tokens."""
    padded_length: int = 20_000
    """Length that padded-fixed pads to, tokens."""
    micro_batch_size: int = 1
    """Samples that padded and padded-fixed compute at a time."""
    without_gradient_checkpointing: bool = False
    """transformers keeps all activations instead of computing its layers again."""
    precision: Literal["bf16", "fp32"] = "bf16"
    """Of weights and activations."""
    trainer_options: str = ""
    """Further options of pretrain_sft for the peers that are this trainer, as one word."""
    lr: float = 1e-5
    """Learning rate, constant."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes a GPU when there is one."""
    peak_tflops: float | None = None
    """Dense bf16 peak of the device in TFLOP/s, for MFU. Known GPUs need none."""
    tolerance: float = 0.01
    """How far the first iteration's losses may lie apart, as a share of that of megatron-sft; gradient norms five times
    as far."""
    seed: int = 0
    """Of weights and samples."""
    work: Path | None = None
    """Folder for weights and samples, kept and used again by the next call with the same ones. Default: temporary."""
    output: Path | None = None
    """Write the report to this file, and every figure to the one beside it with the suffix .json."""

    def __post_init__(self) -> None:
        """Check what cannot work."""
        counts = ("global_batch_size", "iterations", "seq_length", "padded_length", "micro_batch_size")
        for name in counts:
            if getattr(self, name) < 1:
                raise ConfigError(f"--{name.replace('_', '-')} {getattr(self, name)}: must be at least 1")
        if self.warmup < 0:
            raise ConfigError(f"--warmup {self.warmup}: must not be negative")
        if not 2 <= self.mean < self.longest <= min(self.seq_length, self.padded_length):
            raise ConfigError(
                f"--mean {self.mean} --longest {self.longest}: the mean must be below the longest sample, and that at "
                f"most --seq-length {self.seq_length} and --padded-length {self.padded_length}"
            )
        model_geometry(self.model)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the subcommand; returns the exit status, 1 where peers disagree or one did not finish."""
    statuses = []
    command = shlex.join(["tools/bench", "train", *(sys.argv[2:] if argv is None else argv)])
    failed = cli.run(
        BenchTrainConfig, lambda config: statuses.append(run(config, command)), prog="bench train", argv=argv
    )
    return failed or statuses[0]


def run(config: BenchTrainConfig, command: str) -> int:
    """Measure every peer, print and write the report; returns 1 where peers disagree or one did not finish."""
    device = find_device(config.device)
    chosen, left_out = choose_peers(config, device)
    with tempfile.TemporaryDirectory(prefix="bench-train-") as temporary:
        work = config.work or Path(temporary)
        geometry = model_geometry(config.model)
        job = prepare(config, geometry, work, device)
        jobs = [replace(job, peer=peer, save=str(work / "runs" / peer)) for peer in chosen]
        measured = [measure(one, config, geometry) for one in jobs]
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    lengths = all_lengths(config)
    lines = report(measured, geometry, lengths, peak=config.peak_tflops, title=[f"`{command}`", date, *left_out])
    problems = disagreements(measured, config.tolerance)
    text = "\n".join([*lines, *problems])
    print(text, flush=True)
    if config.output:
        config.output.parent.mkdir(parents=True, exist_ok=True)
        write_text(config.output, text + "\n")
        figures = {"command": command, "date": date, "peers": {one.peer: asdict(one.answer) for one in measured}}
        write_json(config.output.with_suffix(".json"), figures)
    return 1 if problems else 0


def find_device(requested: str) -> Literal["cpu", "cuda"]:
    """The device that peers take.

    Raises:
        EnvironmentProblem: where torch is not installed, or sees no GPU that was asked for.
    """
    if importlib.util.find_spec("torch") is None:
        raise EnvironmentProblem('torch is not installed: tools/setup_env, or the extra "train"')
    import torch

    has_gpu = torch.cuda.is_available()
    if requested == "cuda" and not has_gpu:
        raise EnvironmentProblem("--device cuda: torch sees no GPU; leave it out, or see docs/training.md")
    return "cuda" if has_gpu and requested != "cpu" else "cpu"


def choose_peers(config: BenchTrainConfig, device: str) -> tuple[list[Peer], list[str]]:
    """The peers to measure in the order of `PEERS`, and a line for each that is left out.

    Raises:
        EnvironmentProblem: for a peer asked for by name that cannot run here.
    """
    impossible: dict[Peer, str] = {}
    if device == "cpu" or config.precision == "fp32":
        impossible |= dict.fromkeys(FP8_PEERS, "FP8 needs a GPU and bf16")
    if importlib.util.find_spec("transformers") is None:
        impossible |= dict.fromkeys(TRANSFORMERS_PEERS, "transformers is not installed")
    for peer in config.peers:
        if peer in impossible:
            raise EnvironmentProblem(f"--peers {peer}: {impossible[peer]}")
    wanted = config.peers or PEERS
    left_out = [f"left out: {peer} ({reason})" for peer, reason in impossible.items() if peer in wanted]
    return [peer for peer in PEERS if peer in wanted and peer not in impossible], left_out


def all_lengths(config: BenchTrainConfig) -> list[list[int]]:
    """Tokens of every sample, by iteration."""
    profile = Profile(mean=config.mean, longest=config.longest, sigma=config.sigma)
    lengths = batch_lengths(profile, config.global_batch_size, config.warmup + config.iterations, config.seed)
    found: list[list[int]] = lengths.tolist()
    return found


def prepare(config: BenchTrainConfig, geometry: ModelGeometry, work: Path, device: Literal["cpu", "cuda"]) -> Job:
    """Write samples and weights; weights that an earlier call left for the same model and seed are taken."""
    import numpy as np

    data = work / "data"
    lengths = np.array(all_lengths(config), dtype=np.int64).flatten()
    write_samples(data, lengths, vocab_size=geometry.vocab_size, seed=config.seed)
    model = work / f"{Path(config.model).name}-{config.precision}-{config.seed}"
    if not (model / "generation_config.json").exists():
        write_config(model, geometry)
        start_process(["weights", str(model), device, config.precision, str(config.seed)])
    return Job(
        peer="megatron-sft",
        model=str(model),
        data=str(data),
        save=str(work / "runs"),
        batch_size=config.global_batch_size,
        iterations=config.warmup + config.iterations,
        seq_length=config.seq_length,
        padded_length=config.padded_length,
        micro_batch_size=config.micro_batch_size,
        bf16=config.precision == "bf16",
        gradient_checkpointing=not config.without_gradient_checkpointing,
        lr=config.lr,
        device=device,
        trainer_options=tuple(shlex.split(config.trainer_options)),
    )


def measure(job: Job, config: BenchTrainConfig, geometry: ModelGeometry) -> Measured:
    """Run a peer in a process of its own; one that dies has an answer without iterations."""
    folder = Path(job.save)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "answer.json"
    for earlier in (path, folder / "metrics.jsonl"):
        earlier.unlink(missing_ok=True)
    print(f"{job.peer}: {job.iterations} iterations ...", file=sys.stderr, flush=True)
    try:
        start_process([job.to_json(), str(path)])
        answer = Answer.load(path)
    except EnvironmentProblem as problem:
        print(problem, file=sys.stderr, flush=True)
        answer = Answer(versions={}, how="", steps=[], peak_bytes=0, problem="did not finish, see the messages")
    planned = None
    if job.device == "cuda" and job.peer not in TRANSFORMERS_PEERS and answer.steps:
        planned = planned_bytes(geometry, train_options(job), answer.steps[0].num_rows)
    return Measured(peer=job.peer, answer=answer, warmup=config.warmup, planned_bytes=planned)


def start_process(arguments: list[str]) -> None:
    """Run `train_peer`; what it prints is shown where it fails.

    Raises:
        EnvironmentProblem: when it fails.
    """
    command = [sys.executable, "-m", "megatron_sft.workbench.bench.train_peer", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONWARNINGS": "ignore"})
    if result.returncode:
        said = (result.stdout + result.stderr)[-_OUTPUT_SHOWN:]
        raise EnvironmentProblem(f"{shlex.join(command)}: ended with status {result.returncode}: {said}")
