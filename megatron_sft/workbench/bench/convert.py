"""`tools/bench convert`: converting a model there and back, beside copying its files on the same disk.

The model has the geometry of Qwen3-1.7B and random weights. Copying, `from-hf` and `to-hf` take turns, each in a fresh
process, and what each reads is taken out of the page cache before.
"""

import json
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from megatron_sft import cli
from megatron_sft.convert import provenance
from megatron_sft.convert.disk import forget
from megatron_sft.convert.dtypes import Dtype
from megatron_sft.convert.mapping import entries
from megatron_sft.convert.safetensors_folder import SINGLE_FILE
from megatron_sft.convert.safetensors_writer import Fill, plan_files, write_tensors
from megatron_sft.errors import ConfigError, EnvironmentProblem
from megatron_sft.files import write_json
from megatron_sft.model.geometry import ModelGeometry
from megatron_sft.workbench.bench.processes import Usage, measure

_GEOMETRY = {
    "model_type": "qwen3",
    "architectures": ["Qwen3ForCausalLM"],
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 40960,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000000,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "eos_token_id": 1,
}
_PROGRAMS = ("copy", "from-hf", "to-hf")


@dataclass(frozen=True, kw_only=True)
class ConvertConfig:
    """Convert a random model from and to Hugging Face, beside copying its files."""

    repeat: int = 3
    """Runs of each; they take turns."""
    num_layers: int = 28
    """Layers of the model; 28 as Qwen3-1.7B has."""
    vocab_size: int = 151_936
    """Rows of the embedding."""
    work: Path | None = None
    """Folder to write to, on the disk that is to be measured (default: the system's temporary folder). It takes three
    times the model: 10.4 GB."""
    seed: int = 0
    """Of the weights."""

    def __post_init__(self) -> None:
        """Check what cannot work."""
        if min(self.repeat, self.num_layers) < 1 or self.vocab_size < 3:
            raise ConfigError(
                f"--repeat {self.repeat} --num-layers {self.num_layers} --vocab-size {self.vocab_size}: must be at "
                "least 1, 1 and 3"
            )


@dataclass(frozen=True)
class _Runs:
    """What the runs of one program took."""

    name: str
    usages: list[Usage] = field(default_factory=list)

    @property
    def seconds(self) -> list[float]:
        return [usage.wall for usage in self.usages]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the subcommand; returns the exit status."""
    return cli.run(ConvertConfig, run, prog="bench convert", argv=argv)


def run(config: ConvertConfig) -> None:
    """Make the model, measure, and print the table."""
    with tempfile.TemporaryDirectory(prefix="bench-convert-", dir=config.work) as name:
        model = Path(name) / "model"
        digest = make_model(model, config)
        num_bytes = (model / SINGLE_FILE).stat().st_size
        print(f"model: {config.num_layers} layers, {num_bytes / 1e9:.2f} GB in bfloat16", flush=True)
        all_runs = {program: _Runs(program) for program in _PROGRAMS}
        for _ in range(config.repeat):
            for program, usage in _one_round(Path(name), model, digest):
                all_runs[program].usages.append(usage)
                print(f"  {program:8s} {usage.wall:6.1f} s", flush=True)
        copy = statistics.median(all_runs["copy"].seconds)
        titles = ("least", "most", "MB/s", "cpu s", "MiB", "copies")
        print(f"{'':10s}{'median s':>9s}" + "".join(f"{title:>8s}" for title in titles))
        for runs in all_runs.values():
            wall = statistics.median(runs.seconds)
            cpu = statistics.median(usage.cpu for usage in runs.usages)
            peak = max(usage.peak_bytes for usage in runs.usages) / 2**20
            print(
                f"{runs.name:10s}{wall:9.1f}{min(runs.seconds):8.1f}{max(runs.seconds):8.1f}"
                f"{num_bytes / 1e6 / wall:8.0f}{cpu:8.1f}{peak:8.0f}{wall / copy:8.2f}"
            )


def make_model(folder: Path, config: ConvertConfig) -> str:
    """Write the model; returns the sha256 (hex) of its weights."""
    folder.mkdir(parents=True)
    write_json(
        folder / "config.json",
        {**_GEOMETRY, "num_hidden_layers": config.num_layers, "vocab_size": config.vocab_size},
    )
    tokenizer = Tokenizer(WordLevel({"<pad>": 0, "<end>": 1, "a": 2}, unk_token="<pad>"))
    tokenizer.save(str(folder / "tokenizer.json"))
    template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    write_json(folder / "tokenizer_config.json", {"eos_token": "<end>", "chat_template": template})
    geometry = ModelGeometry.from_hf_config(folder)
    tensors = [(name, shape, Dtype.BFLOAT16) for entry in entries(geometry) for name, shape in entry.hf]
    plan = plan_files(tensors, max_bytes=1 << 60)
    return write_tensors(folder, plan, _random_weights(len(plan), config.seed))[SINGLE_FILE]


def _random_weights(count: int, seed: int) -> Iterator[Fill]:
    generator = np.random.default_rng(seed)

    def fill(view: memoryview) -> None:
        bits = generator.integers(0, 1 << 16, len(view) // 2, dtype=np.uint16)
        # Below 2 in size: without the upper bit of the exponent there is neither infinity nor what is no number.
        np.frombuffer(view, np.uint16)[:] = bits & 0xBFFF

    for _ in range(count):
        yield fill


def _one_round(folder: Path, model: Path, digest: str) -> Iterator[tuple[str, Usage]]:
    """Run each program once, on what lies on the disk."""
    save, export, copied = folder / "save", folder / "export", folder / "copy"
    convert = [sys.executable, "-W", "ignore", "-m", "megatron_sft.convert"]
    commands = {
        "copy": (["sh", "-c", 'cp -r "$1" "$2" && sync -f "$2"', "sh", str(model), str(copied)], model),
        "from-hf": ([*convert, "from-hf", "--model", str(model), "--output", str(save)], model),
        "to-hf": ([*convert, "to-hf", "--checkpoint", str(save), "--output", str(export), "--trial", "never"], save),
    }
    for name in _PROGRAMS:
        command, source = commands[name]
        _drop_from_cache(source)
        yield name, measure(command, cores=len(os.sched_getaffinity(0)))
        shutil.rmtree(copied, ignore_errors=True)
    found = json.loads((export / provenance.FILE).read_text())["weights"][SINGLE_FILE]["sha256"]
    if found != digest:
        raise EnvironmentProblem(f"{export}: not the weights that were converted: see to the disk")
    for made in (save, export):
        shutil.rmtree(made)


def _drop_from_cache(folder: Path) -> None:
    os.sync()
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                forget(file.fileno())
