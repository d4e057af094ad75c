"""What four ranks of Megatron-Core hold in bf16: SIZES CONFIG.json ..., where SIZES is a JSON list of [tp, pp].

Prints a JSON object for each model, layout and rank. Ranks are forked after the imports, which so happen once.
"""

import itertools
import json
import multiprocessing
import os
import socket
import sys

import megatron_sft.model.lean_megatron  # noqa: F401

import torch
from megatron.core import parallel_state
from megatron.core.distributed import DistributedDataParallel, DistributedDataParallelConfig
from megatron.core.optimizer import OptimizerConfig, get_megatron_optimizer

from megatron_sft.model.device import process_group, select_device
from megatron_sft.model.geometry import ModelGeometry
from megatron_sft.model.gpt import build_gpt, initialize_model_parallel, transformer_config
from megatron_sft.model.layout import ParallelLayout

NUM_RANKS = 4


def main() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = multiprocessing.get_context("fork")
    ranks = [context.Process(target=run_rank, args=(rank, port)) for rank in range(NUM_RANKS)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join()
    return max(abs(process.exitcode or 0) for process in ranks)


def run_rank(rank: int, port: int) -> None:
    torch.set_num_threads(1)
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(NUM_RANKS), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
    )
    device = select_device("cpu")
    with device.activate(), process_group(device):
        for path, (tp, pp) in itertools.product(sys.argv[2:], json.loads(sys.argv[1])):
            geometry = ModelGeometry.from_hf_config(path)
            layout = ParallelLayout(tensor_model_parallel_size=tp, pipeline_model_parallel_size=pp)
            initialize_model_parallel(layout)
            config = transformer_config(geometry, layout, device, dtype=torch.bfloat16)
            model = build_gpt(config, geometry, device)
            found = {"model": path, "tp": tp, "pp": pp, "stage": parallel_state.get_pipeline_model_parallel_rank()}
            # One write, so that lines of ranks do not mix.
            sys.stdout.write(json.dumps(found | held_by(model, config)) + "\n")
            sys.stdout.flush()
            torch.distributed.barrier()
            parallel_state.destroy_model_parallel()


def held_by(model: torch.nn.Module, config: object) -> dict[str, int]:
    """Counts and bytes of one rank, after an update."""
    parameters = list(model.parameters())
    settings = DistributedDataParallelConfig(use_distributed_optimizer=True, grad_reduce_in_fp32=True)
    ddp = DistributedDataParallel(config=config, ddp_config=settings, module=model)
    options = OptimizerConfig(
        optimizer="adam", lr=1e-3, bf16=True, params_dtype=torch.bfloat16, use_distributed_optimizer=True, clip_grad=0.0
    )
    optimizer = get_megatron_optimizer(options, [ddp])
    optimizer.step()
    states = [
        tensor
        for part in getattr(optimizer, "chained_optimizers", [optimizer])
        for main, state in part.optimizer.state.items()
        for tensor in (main, state["exp_avg"], state["exp_avg_sq"])
    ]
    buffers = [*ddp.buffers, *ddp.expert_parallel_buffers]
    return {
        "num_tensors": len(parameters),
        "parameters": sum(parameter.numel() for parameter in parameters),
        "weights": sum(parameter.numel() * parameter.element_size() for parameter in parameters),
        "gradients": sum(buffer.grad_data.numel() * buffer.grad_data.element_size() for buffer in buffers),
        "optimizer": sum(state.numel() * state.element_size() for state in states),
    }


if __name__ == "__main__":
    sys.exit(main())
