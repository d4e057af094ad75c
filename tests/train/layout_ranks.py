"""Trains a few iterations in one layout after another: `torchrun --nproc-per-node N layout_ranks.py JSON`.

The JSON object has the options of every run by name. One start of N processes serves all, for the imports take longer
than the training.
"""

import json
import sys
from pathlib import Path

import torch

from megatron_sft import pretrain_sft
from megatron_sft.model.device import select_device
from megatron_sft.train.options import TrainOptions

PATHS = ("data", "save", "init_from")


def main() -> None:
    device = select_device("cpu")
    store, rank, world_size = next(torch.distributed.rendezvous("env://"))
    for name, values in json.loads(sys.argv[1]).items():
        # Process groups of earlier runs would keep hundreds of threads.
        own_store = torch.distributed.PrefixStore(name, store)
        torch.distributed.init_process_group("gloo", store=own_store, rank=rank, world_size=world_size)
        with device.activate():
            pretrain_sft.train(TrainOptions(**{**values, **{path: Path(values[path]) for path in PATHS}}), device)
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
