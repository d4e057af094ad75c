"""`tools/bench limits`: what this machine can do at most with the steps that every builder of shards must take.

One core, warm memory, the fastest of some repetitions: figures to hold the builder against, not to be reached together.
"""

import hashlib
import importlib.util
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from megatron_sft import cli
from megatron_sft.errors import ConfigError
from megatron_sft.workbench.bench.corpus import make_corpus
from megatron_sft.workbench.bench.processes import pin


@dataclass(frozen=True, kw_only=True)
class LimitsConfig:
    """Measure copying, scanning, parsing, hashing and writing on one core, over a generated corpus."""

    megabytes: float = 50
    """Size of the corpus in 10^6 bytes."""
    repeat: int = 5
    """Repetitions of each measurement; the fastest is shown."""
    corpus: Path | None = None
    """Corpus to use instead of a generated one, as `make_corpus` writes it."""
    seed: int = 0
    """Seed of the generated corpus."""
    work: Path | None = None
    """Folder to write to (default: the system's temporary folder); its disk is what `write` measures."""

    def __post_init__(self) -> None:
        """Check what cannot work."""
        if self.repeat < 1 or self.megabytes <= 0:
            raise ConfigError(f"--repeat {self.repeat} --megabytes {self.megabytes}: both must be above 0")


@dataclass(frozen=True, kw_only=True)
class Limit:
    """One measurement."""

    name: str
    """What is done."""
    cpu_speed: float
    """10^6 bytes a cpu-second."""
    wall_speed: float
    """10^6 bytes a second of wall-clock time."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit status."""
    return cli.run(LimitsConfig, show_limits, prog="bench limits", argv=argv)


def show_limits(config: LimitsConfig) -> None:
    """Measure and print the table."""
    allowed = pin(1)
    try:
        with tempfile.TemporaryDirectory(prefix="bench-limits-", dir=config.work) as name:
            folder = Path(name)
            corpus = config.corpus
            if corpus is None:
                corpus = folder / "corpus.jsonl"
                make_corpus(corpus, config.megabytes, config.seed)
            print(f"corpus {corpus.stat().st_size / 1e6:.1f} MB; one core, the fastest of {config.repeat}")
            print(f"{'':44s} MB/cpu-s     MB/s  cpu-ms/MB")
            for limit in measure_limits(corpus, folder, config.repeat):
                cost = 1000 / limit.cpu_speed
                print(f"{limit.name:44s} {limit.cpu_speed:8.0f} {limit.wall_speed:8.0f} {cost:10.3f}", flush=True)
    finally:
        os.sched_setaffinity(0, allowed)


def measure_limits(corpus: Path, folder: Path, repeat: int) -> Iterator[Limit]:
    """Measure each step over the bytes of `corpus`, writing below `folder`."""
    content = corpus.read_bytes()
    lines = content.strip().split(b"\n")
    # Long texts, as the filters and the tokenizer see them.
    texts = [json.loads(line)["response"].encode() for line in lines]
    text_size = sum(map(len, texts))
    source = np.frombuffer(content, np.uint8)
    target = np.empty_like(source)
    buffer = bytearray(len(content))

    def timed(name: str, size: int, step: Callable[[], object]) -> Limit:
        return _fastest(name, size, step, repeat)

    yield timed("copy memory", len(content), lambda: np.copyto(target, source))
    yield timed("read a cached file", len(content), lambda: _read_into(corpus, buffer))
    yield timed("scan for line ends", len(content), lambda: content.count(b"\n"))
    if importlib.util.find_spec("orjson") is not None:
        import orjson

        yield timed(
            "parse JSON lines, orjson", len(content), lambda: [None for line in lines if not orjson.loads(line)]
        )
    else:
        print("left out: orjson is not installed (pip install 'megatron-sft[bench]')")
    yield timed(
        "parse JSON lines, Python's json", len(content), lambda: [None for line in lines if not json.loads(line)]
    )
    yield timed("check UTF-8 (decode to a string)", text_size, lambda: [None for text in texts if not text.decode()])
    yield timed("search a word from the end", text_size, lambda: [text.rfind(b"<think>") for text in texts])
    yield timed("sha256", len(content), lambda: hashlib.sha256(content).digest())
    yield timed("write to a file", len(content), lambda: _write(folder / "written", content, sync=False))
    yield timed("write to a file, synced", len(content), lambda: _write(folder / "written", content, sync=True))


def _fastest(name: str, size: int, step: Callable[[], object], repeat: int) -> Limit:
    """Run `step` over `size` bytes: the least cpu time and the least wall time of `repeat` runs."""
    cpus, walls = [], []
    for _ in range(repeat):
        cpu, wall = time.process_time(), time.perf_counter()
        step()
        cpus.append(time.process_time() - cpu)
        walls.append(time.perf_counter() - wall)
    # A step on a tiny corpus can take less than the clock shows.
    fastest = [max(min(times), 1e-9) for times in (cpus, walls)]
    return Limit(name=name, cpu_speed=size / 1e6 / fastest[0], wall_speed=size / 1e6 / fastest[1])


def _read_into(path: Path, buffer: bytearray) -> None:
    with path.open("rb", buffering=0) as file:
        view, done = memoryview(buffer), 0
        while count := file.readinto(view[done : done + (1 << 20)]):
            done += count


def _write(path: Path, content: bytes, *, sync: bool) -> None:
    """Write in blocks of a megabyte, as a program that streams does."""
    view = memoryview(content)
    with path.open("wb", buffering=0) as file:
        for start in range(0, len(view), 1 << 20):
            file.write(view[start : start + (1 << 20)])
        if sync:
            os.fsync(file.fileno())
    path.unlink()
