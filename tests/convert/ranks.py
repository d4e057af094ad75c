"""Several ranks of a model: load a Hugging Face folder, compute logits, write a checkpoint. Run by `run_ranks`.

    NUM_RANKS TP LOGITS.pt JOBS.json

LOGITS.pt holds {model folder: (token ids [n], logits of transformers [n, vocab])}; JOBS.json is a list of
[model folder, save folder, metadata for Megatron-Core's sharded_state_dict]. Ranks are forked after the imports,
which so happen once.
"""

import json
import multiprocessing
import os
import socket
import sys
from pathlib import Path
from typing import Any

import torch
from megatron.core import dist_checkpointing, parallel_state
from megatron.core.dist_checkpointing.strategies.torch import TorchDistSaveShardedStrategy
from megatron.core.packed_seq_params import PackedSeqParams
from megatron.core.tensor_parallel import gather_from_tensor_model_parallel_region

from megatron_sft.convert import assets
from megatron_sft.convert.hf_weights import load_hf_into
from megatron_sft.model import checkpoint_dir
from megatron_sft.model.device import process_group, select_device
from megatron_sft.model.geometry import ModelGeometry
from megatron_sft.model.gpt import build_gpt, initialize_model_parallel, transformer_config
from megatron_sft.model.layout import ParallelLayout


def main() -> int:
    num_ranks = int(sys.argv[1])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = multiprocessing.get_context("fork")
    ranks = [context.Process(target=run_rank, args=(rank, num_ranks, port)) for rank in range(num_ranks)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join()
    return max(abs(process.exitcode or 0) for process in ranks)


def run_rank(rank: int, num_ranks: int, port: int) -> None:
    torch.set_num_threads(1)
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(num_ranks), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
    )
    tp, references, jobs = int(sys.argv[2]), torch.load(sys.argv[3]), json.loads(Path(sys.argv[4]).read_text())
    device = select_device("cpu")
    layout = ParallelLayout(tensor_model_parallel_size=tp, pipeline_model_parallel_size=num_ranks // tp)
    with device.activate(), process_group(device):
        initialize_model_parallel(layout)
        for model_dir, save, metadata in jobs:
            geometry = ModelGeometry.from_hf_config(model_dir)
            config = transformer_config(geometry, layout, device, dtype=torch.float32, perform_initialization=False)
            model = build_gpt(config, geometry, device)
            for parameter in model.parameters():
                torch.nn.init.constant_(parameter, float("nan"))
            load_hf_into(model, geometry, model_dir)
            tokens, expected = references[model_dir]
            compare_logits(model, tokens, expected)
            write(model, metadata, Path(model_dir), Path(save))


@torch.no_grad()
def compare_logits(model: Any, tokens: torch.Tensor, expected: torch.Tensor) -> None:
    bounds = torch.tensor([0, len(tokens)], dtype=torch.int32)
    packed = PackedSeqParams(
        qkv_format="thd",
        cu_seqlens_q=bounds,
        cu_seqlens_kv=bounds,
        max_seqlen_q=len(tokens),
        max_seqlen_kv=len(tokens),
    )
    if not model.pre_process:
        hidden = torch.empty(len(tokens), 1, model.config.hidden_size)
        torch.distributed.recv(hidden, parallel_state.get_pipeline_model_parallel_prev_rank())
        model.set_input_tensor(hidden)
    positions = torch.arange(len(tokens))
    result = model(tokens[None], positions[None], None, packed_seq_params=packed)
    if not model.post_process:
        torch.distributed.send(result.contiguous(), parallel_state.get_pipeline_model_parallel_next_rank())
        return
    logits = gather_from_tensor_model_parallel_region(result).reshape(len(tokens), -1)
    assert (logits[:, expected.shape[1] :] == 0).all(), "the padded vocabulary must be zero"
    torch.testing.assert_close(logits[:, : expected.shape[1]], expected, atol=1e-5, rtol=0)


def write(model: Any, metadata: dict[str, Any], model_dir: Path, save: Path) -> None:
    metadata = {**metadata, "dp_cp_group": parallel_state.get_data_parallel_group(with_context_parallel=True)}
    partial = save / "iter_0000010.incomplete"
    if torch.distributed.get_rank() == 0:
        checkpoint_dir.incomplete_dir(save, 10)
    torch.distributed.barrier()
    strategy = TorchDistSaveShardedStrategy("torch_dist", 1, thread_count=1)
    dist_checkpointing.save(model.sharded_state_dict(metadata=metadata), str(partial), strategy)
    torch.distributed.barrier()
    if torch.distributed.get_rank() == 0:
        collected = save / "collected"
        collected.mkdir()
        assets.collect(model_dir, collected)
        checkpoint_dir.finish(partial, {"iteration": 10, "stop_token_ids": [1]}, collected)
    torch.distributed.barrier()
