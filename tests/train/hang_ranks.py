"""One rank of a run whose batch builder can fall asleep: `hang_ranks.py JSON`, with torchrun's variables set.

The JSON object has the trainer's `options`, and `asleep`: null, or the rank and the iteration (counted from 1) whose
batch it never gets. The default process group waits for half an hour, so that nothing but the watchdog ends a hang.
"""

import json
import sys
import time
from dataclasses import dataclass, fields
from pathlib import Path

from megatron_sft import pretrain_sft
from megatron_sft.model.device import process_group, select_device
from megatron_sft.train.batch import BatchBuilder, StepBatch
from megatron_sft.train.options import TrainOptions

PATHS = ("data", "save", "init_from")


@dataclass(frozen=True, kw_only=True)
class SleepyBuilder(BatchBuilder):
    """Sleeps instead of building one iteration."""

    asleep_at: int

    def build(self, iteration: int) -> StepBatch:
        if iteration + 1 == self.asleep_at:
            time.sleep(600)
        return super().build(iteration)


def main() -> None:
    given = json.loads(sys.argv[1])
    values = given["options"]
    options = TrainOptions(**{**values, **{path: Path(values[path]) for path in PATHS}})
    make_batches = pretrain_sft.make_batches

    def make_sleepy_batches(*arguments) -> BatchBuilder:
        builder = make_batches(*arguments)
        if given["asleep"] is None or builder.dp_rank != given["asleep"]["rank"]:
            return builder
        values = {field.name: getattr(builder, field.name) for field in fields(builder)}
        return SleepyBuilder(**values, asleep_at=given["asleep"]["iteration"])

    pretrain_sft.make_batches = make_sleepy_batches
    device = select_device("cpu")
    with process_group(device), device.activate():
        pretrain_sft.train(options, device)


if __name__ == "__main__":
    main()
