"""`build_shards --engine ray`: the input files are processed on a Ray cluster.

Each task runs `--part K/N` with one input file; the results lie in the output folder, which all machines share, and the
build on this machine then makes the shards of them. So the bytes are those of a build on one machine.
"""

import copy
import json
from pathlib import Path
from typing import Any

from megatron_sft._native import ChatTokenizer, build_shards
from megatron_sft.errors import ConfigError


def process_files(options: dict[str, Any], tokenizer: Path) -> None:
    """Process every input file of `options` (`build_shards.build_options`) on the cluster.

    `tokenizer` is its folder, at the same place on every machine.

    Connects to the cluster that `RAY_ADDRESS` names, or starts one on this machine.

    Raises:
        ConfigError: when Ray is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise ConfigError("--engine ray needs Ray: pip install 'megatron-sft[ray]'") from error
    ray.init(ignore_reinit_error=True, log_to_driver=False)
    parts = len(options["inputs"])
    workers = min(options["run"]["workers"], int(ray.cluster_resources().get("CPU", 1)))
    print(f"ray          {parts} file(s) over {ray.cluster_resources().get('CPU', 0):.0f} CPU(s), {workers} a file")
    task = ray.remote(num_cpus=workers)(_process)
    shares = [_part_of(options, part, parts, workers) for part in range(1, parts + 1)]
    pending = [task.remote(json.dumps(share), tokenizer) for share in shares]
    done = 0
    while pending:
        finished, pending = ray.wait(pending)
        for result in finished:
            files = json.loads(ray.get(result))["files"]
            done += 1
            print(f"processed    {', '.join(files)} ({done} of {parts})", flush=True)


def _part_of(options: dict[str, Any], part: int, of: int, workers: int) -> dict[str, Any]:
    part_options = copy.deepcopy(options)
    part_options["run"] |= {"part": [part, of], "overwrite": False, "workers": workers}
    return part_options


def _process(options_json: str, tokenizer: Path) -> str:
    return build_shards(options_json, ChatTokenizer(tokenizer))
