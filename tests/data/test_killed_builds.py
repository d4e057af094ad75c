"""Builds that are killed at random moments and started again end with the bytes of one that was not interrupted."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from megatron_sft.data.shards import MANIFEST_FILE, ShardReader
from megatron_sft.workbench.bench.corpus import make_corpus
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.slow

NUM_KILLS = int(os.environ.get("MEGATRON_SFT_KILLS", "5"))
"""How often a build is killed; more find rarer mistakes."""
SEED = int(os.environ.get("MEGATRON_SFT_KILLS_SEED", "0"))
"""Decides when."""
MEGABYTES = float(os.environ.get("MEGATRON_SFT_KILLS_MEGABYTES", "12"))
"""Size of the corpus: a build should take seconds, not tenths."""


def start(
    inputs: list[Path], output: Path, tokenizer: Path, workers: int, select: str = "all"
) -> "subprocess.Popen[bytes]":
    command = [
        sys.executable, "-m", "megatron_sft.data.build_shards", *map(str, inputs), "--output", str(output),
        "--tokenizer", str(tokenizer), "--max-length", "20000", "--verify", "countdown", "--workers", str(workers),
        # Small shards: a build that is killed has something to go on with.
        "--shard-tokens", "100000", "--select", select,
    ]  # fmt: skip
    return subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finish(process: "subprocess.Popen[bytes]") -> None:
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors.decode()


def folder_bytes(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two files, so that kills also fall between them."""
    folder = tmp_path_factory.mktemp("inputs")
    for seed in range(2):
        make_corpus(folder / f"{seed}.jsonl", MEGABYTES / 2, seed)
    return sorted(folder.iterdir())


@pytest.mark.parametrize("select", ["all", "random-correct"])
def test_a_build_killed_many_times_ends_like_one_that_was_not(
    select: str, inputs: list[Path], tiny_tokenizer: Path, tmp_path: Path
) -> None:
    started = time.monotonic()
    finish(start(inputs, tmp_path / "whole", tiny_tokenizer, 2, select))
    duration = time.monotonic() - started
    expected = folder_bytes(tmp_path / "whole")
    assert MANIFEST_FILE in expected and ShardReader(tmp_path / "whole", verify=True).num_samples > 100

    rng, output, num_killed, num_resumed = random.Random(SEED), tmp_path / "killed", 0, 0
    for attempt in range(NUM_KILLS):
        num_resumed += has_finished_work(output)
        process = start(inputs, output, tiny_tokenizer, rng.choice([1, 2, 3]), select)
        # Now and then so late that the build may be over: then the next one begins anew.
        time.sleep(rng.uniform(0, 1.1 * duration))
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
        num_killed += process.returncode == -signal.SIGKILL
        if (output / MANIFEST_FILE).exists():
            # Complete, but for what the next call tidies away.
            finish(start(inputs, output, tiny_tokenizer, 2, select))
            assert folder_bytes(output) == expected, f"seed {SEED}, attempt {attempt}: wrong bytes beside a manifest"
            shutil.rmtree(output)
    print(f"{num_killed} killed, {num_resumed} times with something to go on with")
    assert num_killed > 0 or NUM_KILLS == 0
    assert num_resumed > 0 or NUM_KILLS < 10
    finish(start(inputs, output, tiny_tokenizer, 2, select))
    assert folder_bytes(output) == expected, f"seed {SEED}, {NUM_KILLS} kills"


def test_a_build_killed_at_each_new_file_ends_like_one_that_was_not(
    inputs: list[Path], tiny_tokenizer: Path, tmp_path: Path
) -> None:
    """The moments when files appear or are renamed are short: kill right after each change of the folder."""
    finish(start(inputs, tmp_path / "whole", tiny_tokenizer, 2))
    expected, output, seen = folder_bytes(tmp_path / "whole"), tmp_path / "killed", set[frozenset[str]]()
    for _ in range(max(NUM_KILLS, 2) * 4):
        process = start(inputs, output, tiny_tokenizer, 2)
        while process.poll() is None:
            names = names_in(output)
            if names and names not in seen:
                seen.add(names)
                break
            time.sleep(0.0005)
        if process.poll() is not None:
            # Every state was met before; this build ran to its end.
            finish(process)
            break
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
    else:
        finish(start(inputs, output, tiny_tokenizer, 2))
    assert len(seen) >= 2
    assert folder_bytes(output) == expected


def has_finished_work(folder: Path) -> bool:
    """Whether an unfinished build left a complete shard or a piece of its spool."""
    return any(folder.glob("samples-*.idx.partial")) or any(folder.glob("spool/*.done"))


def names_in(folder: Path) -> frozenset[str]:
    """What the folder shows at this moment."""
    try:
        return frozenset(path.name for path in folder.rglob("*"))
    except FileNotFoundError:
        return frozenset()
