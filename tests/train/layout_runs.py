"""Several runs by one start of some processes."""

import json
import subprocess
import sys
from pathlib import Path

from tests.train.harness import BATCH, read_metrics, trainer_environment


def run_all(world, folder: Path, runs: dict[str, dict], num_processes: int) -> dict[str, list[dict]]:
    """Metrics of each run, one after the other in the same processes."""
    common = {
        "data": str(world.shards),
        "init_from": str(world.model),
        "global_batch_size": BATCH,
        "seq_length": 320,
        "device": "cpu",
    }
    options = {
        name: {**common, "save": str(folder / name.replace(" ", "_")), **changes} for name, changes in runs.items()
    }
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(num_processes)]
    script = str(Path(__file__).with_name("layout_ranks.py"))
    command = [*launcher, "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", script, json.dumps(options)]
    result = subprocess.run(command, env=trainer_environment(), capture_output=True, text=True, timeout=900)
    assert result.returncode == 0, result.stdout[-1500:] + result.stderr[-6000:]
    return {name: read_metrics(Path(values["save"])) for name, values in options.items()}
