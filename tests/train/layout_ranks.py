"""Trains a few iterations in one layout after another: `torchrun --nproc-per-node N layout_ranks.py JSON`.

The JSON object has the options of every run by name. One start of N processes serves all, for the imports take longer
than the training.
"""

import json
import sys
from pathlib import Path

from megatron_sft import pretrain_sft
from megatron_sft.model.device import process_group, select_device
from megatron_sft.train.options import TrainOptions

PATHS = ("data", "save", "init_from")


def main() -> None:
    device = select_device("cpu")
    with process_group(device), device.activate():
        for values in json.loads(sys.argv[1]).values():
            for name in PATHS:
                values[name] = Path(values[name])
            pretrain_sft.train(TrainOptions(**values), device)


if __name__ == "__main__":
    main()
