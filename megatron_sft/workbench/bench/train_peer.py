"""The process of a peer: `python -m megatron_sft.workbench.bench.train_peer JOB ANSWER`, a JSON object and a file.

`weights MODEL DEVICE PRECISION SEED` in their place draws the weights that all peers start from.
"""

import sys
from pathlib import Path

from megatron_sft.workbench.bench.train_job import TRANSFORMERS_PEERS, Job


def main(arguments: list[str]) -> None:
    """Do what the command line says; imports only what the peer itself would."""
    if arguments[0] == "weights":
        from megatron_sft.workbench.bench.train_inputs import write_weights

        folder, device, precision, seed = arguments[1:]
        write_weights(Path(folder), bf16=precision == "bf16", device=device, seed=int(seed))
        return
    job = Job.from_json(arguments[0])
    if job.peer in TRANSFORMERS_PEERS:
        from megatron_sft.workbench.bench import train_transformers

        answer = train_transformers.run(job)
    else:
        from megatron_sft.workbench.bench import train_megatron

        answer = train_megatron.run(job)
    answer.save(Path(arguments[1]))


if __name__ == "__main__":
    main(sys.argv[1:])
