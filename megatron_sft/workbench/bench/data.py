"""`tools/bench data`: JSON lines to shards, beside the other ways to get token ids from the same corpus.

Every run is a fresh process pinned to as many cores as it has workers, its cpu time that of the whole process tree. The
candidates take turns, so that a slow spell of the machine meets them all. Slow peers get a slice of the corpus; the
table says how much. Megabytes are always those of the JSON lines, 10^6 bytes.
"""

import gzip
import importlib.util
import json
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from megatron_sft import cli, files
from megatron_sft.errors import ConfigError
from megatron_sft.workbench.bench.corpus import make_corpus
from megatron_sft.workbench.bench.processes import Usage, measure

Peer = Literal["megatron", "script", "fastokens", "tokenizers"]
PEERS: tuple[Peer, ...] = ("megatron", "script", "fastokens", "tokenizers")
PACKAGES: dict[str, tuple[str, ...]] = {
    "megatron": (),
    "script": ("fastokens", "orjson"),
    "fastokens": ("fastokens",),
    "tokenizers": (),
}
# Longer than any generated trace: every candidate tokenizes and writes the same rows.
_MAX_LENGTH = 131_072
# Documents in a task of the process pool, as Megatron-LM's program has it.
_POOL_CHUNK = 32


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Build shards from a generated corpus, and run other programs that tokenize it, side by side."""

    tokenizer: Path
    """Folder with tokenizer.json (or tokenizer.json.gz), tokenizer_config.json and a ChatML template."""
    megabytes: float = 200
    """Size of the corpus in 10^6 bytes."""
    slice_megabytes: float = 20
    """Size of the part of it that the slow peers get, in 10^6 bytes."""
    peers: tuple[Literal["all", "none", "megatron", "script", "fastokens", "tokenizers"], ...] = ("all",)
    """What to compare with: `megatron` (process pool, Hugging Face tokenizers, .bin/.idx), `script` (orjson, fastokens,
    numpy), and two tokenizers alone, over parsed texts: `fastokens`, `tokenizers`."""
    workers: tuple[int, ...] = (1, 2)
    """Numbers of workers to measure, each with as many cores."""
    repeat: int = 3
    """Runs of each candidate; the table shows medians."""
    batches: tuple[int, ...] = (16, 64, 256, 1024)
    """Documents in a call of fastokens; the best for the slice is taken for all."""
    corpus: Path | None = None
    """Corpus to use instead of a generated one, as `make_corpus` writes it."""
    seed: int = 0
    """Seed of the generated corpus."""
    work: Path | None = None
    """Folder for corpus and outputs, removed afterwards (default: the system's temporary folder)."""
    results: Path | None = None
    """JSON file to write all runs to."""

    def __post_init__(self) -> None:
        """Check what cannot work."""
        if self.repeat < 1 or not self.workers or min(self.workers) < 1:
            raise ConfigError(f"--repeat {self.repeat} --workers {self.workers}: both need at least 1")
        if not 0 < self.slice_megabytes <= self.megabytes:
            raise ConfigError(f"--slice-megabytes {self.slice_megabytes} is not within --megabytes {self.megabytes}")
        if not (self.tokenizer / "tokenizer.json").exists() and not (self.tokenizer / "tokenizer.json.gz").exists():
            raise ConfigError(f"--tokenizer {self.tokenizer}: no tokenizer.json or tokenizer.json.gz there")


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """Files that the runs share."""

    corpus: Path
    """All rows."""
    slice: Path
    """The first of them, for slow peers."""
    tokenizer_json: Path
    """The unpacked tokenizer.json, for the peers."""
    output: Path
    """Where a run writes; emptied after each."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A program that is measured."""

    name: str
    """What the table calls it."""
    workers: int
    """Its workers, and the cores it may use."""
    command: tuple[str, ...]
    """The program and its arguments."""
    corpus: Path
    """What it reads."""
    inside: bool = False
    """Whether it reports its own times, those of the tokenization alone."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of a candidate."""

    wall: float
    """Seconds."""
    cpu: float
    """Seconds of the whole process tree; of the tokenization alone for a candidate that measures itself."""
    process_cpu: float
    """Seconds of the whole process tree."""
    peak_bytes: int
    """Most resident memory."""
    tokens: int
    """Tokens that it made."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit status."""
    return cli.run(DataConfig, bench, prog="bench data", argv=argv)


def bench(config: DataConfig) -> None:
    """Measure all candidates and print the table."""
    with _workspace(config) as space:
        candidates = list(_candidates(config, space))
        runs: dict[Candidate, list[Run]] = {candidate: [] for candidate in candidates}
        for repetition in range(config.repeat):
            for candidate in candidates:
                run = _run(candidate, space)
                runs[candidate].append(run)
                print(
                    f"run {repetition + 1}/{config.repeat}  {candidate.name}, {candidate.workers} worker(s): "
                    f"{run.cpu:.2f} cpu-s, {run.wall:.2f} s",
                    flush=True,
                )
        rows = [_summary(candidate, runs[candidate]) for candidate in candidates]
        _print_table(rows)
        if "script" in {candidate.name for candidate in candidates}:
            _print_agreement(config, space)
    if config.results is not None:
        files.write_json(config.results, {"megabytes": config.megabytes, "seed": config.seed, "rows": rows})
        print(f"results in {config.results}")


@contextmanager
def _workspace(config: DataConfig) -> Iterator[Workspace]:
    with tempfile.TemporaryDirectory(prefix="bench-data-", dir=config.work) as name:
        folder = Path(name)
        if config.corpus is None:
            corpus = folder / "corpus.jsonl"
            num_rows = make_corpus(corpus, config.megabytes, config.seed)
            print(f"corpus       {corpus.stat().st_size / 1e6:.1f} MB, {num_rows} rows, seed {config.seed}")
        else:
            corpus = config.corpus
            print(f"corpus       {corpus}, {corpus.stat().st_size / 1e6:.1f} MB")
        space = Workspace(
            corpus=corpus, slice=folder / "slice.jsonl", tokenizer_json=folder / "tokenizer.json", output=folder / "out"
        )
        _copy_slice(corpus, space.slice, config.slice_megabytes)
        _unpack_tokenizer(config.tokenizer, space.tokenizer_json)
        yield space


def _copy_slice(corpus: Path, target: Path, megabytes: float) -> None:
    with corpus.open("rb") as source, target.open("wb") as file:
        for line in source:
            file.write(line)
            if file.tell() >= megabytes * 1e6:
                break


def _unpack_tokenizer(folder: Path, target: Path) -> None:
    """The peers read no compressed tokenizer."""
    plain, packed = folder / "tokenizer.json", folder / "tokenizer.json.gz"
    target.write_bytes(plain.read_bytes() if plain.exists() else gzip.decompress(packed.read_bytes()))


def _candidates(config: DataConfig, space: Workspace) -> Iterator[Candidate]:
    for workers in config.workers:
        yield _ours(config, space.corpus, space.output, workers, "countdown")
        yield _ours(config, space.corpus, space.output, workers, "none")
    peers = [peer for peer in PEERS if peer in config.peers or "all" in config.peers]
    for peer in peers:
        missing = [package for package in PACKAGES[peer] if importlib.util.find_spec(package) is None]
        if missing:
            print(f"left out     {peer}: {', '.join(missing)} not installed (pip install 'megatron-sft[bench]')")
            continue
        fast = "fastokens" in PACKAGES[peer]
        batch = _best_batch(config, space, peer) if fast else _POOL_CHUNK
        for workers in config.workers:
            yield _peer(peer, space.corpus if fast else space.slice, space, workers, batch)


def _ours(config: DataConfig, corpus: Path, output: Path, workers: int, verify: str) -> Candidate:
    command = (
        sys.executable, "-m", "megatron_sft.data.build_shards", str(corpus), "--output", str(output),
        "--tokenizer", str(config.tokenizer), "--max-length", str(_MAX_LENGTH), "--verify", verify,
        "--workers", str(workers),
    )  # fmt: skip
    name = "build_shards" if verify != "none" else "build_shards, no verification"
    return Candidate(name=name, workers=workers, command=command, corpus=corpus)


def _peer(peer: Peer, corpus: Path, space: Workspace, workers: int, batch: int) -> Candidate:
    command = (
        sys.executable, "-m", "megatron_sft.workbench.bench.peers", peer, str(corpus), str(space.tokenizer_json),
        str(space.output / "samples"), str(workers), str(batch),
    )  # fmt: skip
    inside = peer in ("fastokens", "tokenizers")
    return Candidate(name=peer, workers=workers, command=command, corpus=corpus, inside=inside)


def _best_batch(config: DataConfig, space: Workspace, peer: Peer) -> int:
    """The number of documents in a call that takes least cpu on the slice."""
    seconds = {
        batch: min(_run(_peer(peer, space.slice, space, 1, batch), space).cpu for _ in range(2))
        for batch in config.batches
    }
    best = min(seconds, key=lambda batch: seconds[batch])
    tried = ", ".join(f"{batch}: {value:.2f}" for batch, value in seconds.items())
    print(f"{peer:12s} batches of {best} documents (cpu-seconds for the slice: {tried})", flush=True)
    return best


def _run(candidate: Candidate, space: Workspace) -> Run:
    """Run a candidate once and empty the output folder."""
    space.output.mkdir()
    try:
        usage = measure(candidate.command, cores=candidate.workers)
        counted = _counted(candidate, usage, space.output)
    finally:
        shutil.rmtree(space.output)
    return Run(
        wall=counted.get("wall", usage.wall),
        cpu=counted.get("cpu", usage.cpu),
        process_cpu=usage.cpu,
        peak_bytes=usage.peak_bytes,
        tokens=counted["tokens"],
    )


def _counted(candidate: Candidate, usage: Usage, output: Path) -> dict[str, Any]:
    manifest = output / "manifest.json"
    if manifest.exists():
        return {"tokens": json.loads(manifest.read_text(encoding="utf-8"))["tokens"]}
    counted: dict[str, Any] = json.loads(usage.output)
    return counted if candidate.inside else {"tokens": counted["tokens"]}


def _summary(candidate: Candidate, runs: list[Run]) -> dict[str, Any]:
    megabytes = candidate.corpus.stat().st_size / 1e6
    wall, cpu = (statistics.median(getattr(run, key) for run in runs) for key in ("wall", "cpu"))
    return {
        "name": candidate.name + (" (tokenization alone)" if candidate.inside else ""),
        "workers": candidate.workers,
        "megabytes": round(megabytes, 1),
        "wall_s": round(wall, 3),
        "cpu_s": round(cpu, 3),
        "process_cpu_s": round(statistics.median(run.process_cpu for run in runs), 3),
        "cpu_s_runs": [round(run.cpu, 3) for run in runs],
        "mb_per_s": round(megabytes / wall, 2),
        "mb_per_cpu_s": round(megabytes / cpu, 2),
        "peak_mib": max(run.peak_bytes for run in runs) >> 20,
        "tokens": runs[0].tokens,
    }


def _print_table(rows: list[dict[str, Any]]) -> None:
    """The medians; `x ours` is the cpu time for a megabyte over that of build_shards with as many workers."""
    ours = {row["workers"]: row["mb_per_cpu_s"] for row in rows if row["name"] == "build_shards"}
    print(f"\n{'':34s} workers     MB   wall s    cpu s    MB/s  MB/cpu-s  cpu x ours  peak MiB    tokens")
    for row in rows:
        ratio = ours[row["workers"]] / row["mb_per_cpu_s"]
        print(
            f"{row['name']:34s} {row['workers']:7d} {row['megabytes']:6.1f} {row['wall_s']:8.2f} {row['cpu_s']:8.2f} "
            f"{row['mb_per_s']:7.1f} {row['mb_per_cpu_s']:9.1f} {ratio:11.2f} {row['peak_mib']:9d} {row['tokens']:9d}"
        )
    for row in rows:
        if row["process_cpu_s"] != row["cpu_s"]:
            print(
                f"{row['name']}, {row['workers']} worker(s): the whole process, with start, parsing and "
                f"loading, took {row['process_cpu_s']:.2f} cpu-s"
            )
    walls = {row["workers"]: row["wall_s"] for row in rows if row["name"] == "build_shards"}
    for workers, wall in list(walls.items())[1:]:
        first = next(iter(walls))
        print(f"build_shards with {workers} workers is {walls[first] / wall:.2f} times as fast as with {first}")


def _print_agreement(config: DataConfig, space: Workspace) -> None:
    """Say whether the script and build_shards, both without checks, wrote the same ids for the slice."""
    contents = []
    for candidate in (
        _ours(config, space.slice, space.output, 1, "none"),
        _peer("script", space.slice, space, 1, config.batches[0]),
    ):
        space.output.mkdir()
        measure(candidate.command, cores=1)
        contents.append(b"".join(path.read_bytes() for path in sorted(space.output.glob("samples*.bin"))))
        shutil.rmtree(space.output)
    verdict = "the same" if contents[0] == contents[1] else "DIFFERENT"
    print(f"token ids of the slice, build_shards without verification and script: {verdict}")
