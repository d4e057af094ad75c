"""Two ranks on one GPU: `torchrun --nproc-per-node 2 two_ranks.py BACKEND JSON`.

The JSON object has options of runs by name. Rank 0 prints a JSON object: by name `done`, or the error that ended the
run. The first error ends the program, for the ranks may then wait for each other.
"""

import json
import sys
from datetime import timedelta
from pathlib import Path

import torch

from megatron_sft import pretrain_sft
from megatron_sft.model.device import Device
from megatron_sft.train.options import TrainOptions

PATHS = ("data", "save", "init_from")
TIMEOUT = timedelta(minutes=2)


def main() -> None:
    device = Device(torch_device=torch.device("cuda", 0), backend=sys.argv[1])
    store, rank, world_size = next(torch.distributed.rendezvous("env://"))
    found = {}
    for name, values in json.loads(sys.argv[2]).items():
        own_store = torch.distributed.PrefixStore(name, store)
        try:
            torch.distributed.init_process_group(
                device.backend, store=own_store, rank=rank, world_size=world_size, timeout=TIMEOUT
            )
            with device.activate():
                # What cannot work fails here, before a model is built.
                torch.distributed.all_reduce(torch.ones(1, device=device.torch_device))
                pretrain_sft.train(TrainOptions(**{**values, **{path: Path(values[path]) for path in PATHS}}), device)
        except Exception as error:
            found[name] = f"{type(error).__name__}: {error}"
            break
        found[name] = "done"
        torch.distributed.destroy_process_group()
    if rank == 0:
        print("FOUND " + json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
