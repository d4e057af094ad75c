"""A run of two ranks on one GPU: `torchrun --nproc-per-node 2 two_ranks.py BACKEND OPTIONS`, the options as JSON.

Prints `FOUND ` and a JSON string: `done`, or the error that ended the run, from the rank that met it first.
"""

import json
import os
import sys
from datetime import timedelta
from pathlib import Path

import torch

from megatron_sft import pretrain_sft
from megatron_sft.model.device import Device
from megatron_sft.train.options import TrainOptions

PATHS = ("data", "save", "init_from")


def main() -> None:
    values = json.loads(sys.argv[2])
    options = TrainOptions(**{**values, **{path: Path(values[path]) for path in PATHS}})
    device = Device(torch_device=torch.device(options.device, 0), backend=sys.argv[1])
    timeout = timedelta(minutes=options.distributed_timeout_minutes)
    try:
        torch.distributed.init_process_group(device.backend, timeout=timeout)
        with device.activate():
            # What cannot work at all fails here, before a model is built.
            torch.distributed.all_reduce(torch.ones(1, device=device.torch_device))
            pretrain_sft.train(options, device)
    except Exception as error:
        print("FOUND " + json.dumps(f"{type(error).__name__}: {error}"), flush=True)
        # The other rank may wait for this one, and so would an orderly end.
        os._exit(1)
    if torch.distributed.get_rank() == 0:
        print("FOUND " + json.dumps("done"), flush=True)
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
