"""Several ranks of a model: load a Hugging Face folder, compute logits, write a checkpoint. Run by `run_ranks`.

    NUM_RANKS TP VIRTUAL_STAGES REFERENCES.pt JOBS.json

REFERENCES.pt holds a `Reference` for each model folder; JOBS.json is a list of objects:

    model         model folder
    save          checkpoint folder to write, or null
    metadata      for Megatron-Core's sharded_state_dict
    gradients     folder in the model's format whose tensors are the gradients of the documents' loss, or null
    checkpoint    iteration folder to load the weights from instead of the model folder, or absent
    tolerance     largest difference of logits, or absent
    writer        "megatron" for Megatron-Core's own way of writing, which starts a process per rank; else the trainer's

Ranks are forked after the imports, which so happen once.
"""

import itertools
import json
import multiprocessing
import os
import socket
import sys
from pathlib import Path
from typing import Any

import megatron_sft.model.lean_megatron  # noqa: F401

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
from megatron_sft.model.gpt import build_chunks, initialize_model_parallel, transformer_config
from megatron_sft.model.layout import ParallelLayout
from megatron_sft.model.sharded_save import ShardedSave
from megatron_sft.train.loss import token_losses
from tests.convert.reference import Reference

TOLERANCE = 1e-5
"""Largest difference of logits, whose standard deviation is about 1 to 2, and of gradients relative to the largest."""


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
    tp, virtual_stages = int(sys.argv[2]), int(sys.argv[3])
    references, jobs = torch.load(sys.argv[4], weights_only=False), json.loads(Path(sys.argv[5]).read_text())
    device = select_device("cpu")
    layout = ParallelLayout(
        tensor_model_parallel_size=tp,
        pipeline_model_parallel_size=num_ranks // tp,
        virtual_stages=virtual_stages,
    )
    with device.activate(), process_group(device):
        initialize_model_parallel(layout)
        for job in jobs:
            geometry = ModelGeometry.from_hf_config(job["model"])
            config = transformer_config(geometry, layout, device, dtype=torch.float32, perform_initialization=False)
            chunks = build_chunks(config, geometry, device)
            if "checkpoint" in job:
                restore(chunks, job["checkpoint"])
            else:
                load(chunks, geometry, job["model"])
            reference = references[job["model"]]
            compare_logits(chunks, reference, job.get("tolerance", TOLERANCE))
            if job["gradients"]:
                (model,), expected = chunks, build_chunks(config, geometry, device)
                load(expected, geometry, job["gradients"])
                compare_gradients(model, expected[0], reference, geometry)
            if job["save"]:
                write(chunks, job["metadata"], Path(job["model"]), Path(job["save"]), job.get("writer"))


def load(chunks: list[Any], geometry: ModelGeometry, folder: str) -> None:
    for model in chunks:
        for parameter in model.parameters():
            torch.nn.init.constant_(parameter, float("nan"))
        load_hf_into(model, geometry, folder)


def restore(chunks: list[Any], checkpoint: str) -> None:
    """Megatron-Core's own reading. Zeros before: it leaves rows alone that only this layout's vocabulary has."""
    for model in chunks:
        for parameter in model.parameters():
            torch.nn.init.zeros_(parameter)
    state = dist_checkpointing.load(sharded_state(chunks, {}), checkpoint)
    for number, model in enumerate(chunks):
        model.load_state_dict(state[f"model{number}"])


def sharded_state(chunks: list[Any], metadata: dict[str, Any]) -> dict[str, Any]:
    metadata = {**metadata, "dp_cp_group": parallel_state.get_data_parallel_group(with_context_parallel=True)}
    return {f"model{number}": model.sharded_state_dict(metadata=metadata) for number, model in enumerate(chunks)}


@torch.no_grad()
def compare_logits(chunks: list[Any], reference: Reference, tolerance: float = TOLERANCE) -> None:
    """The hidden states go round the pipeline ranks once for each virtual stage."""
    for model in chunks:
        if not model.pre_process:
            hidden = torch.empty(len(reference.tokens), 1, model.config.hidden_size)
            torch.distributed.recv(hidden, parallel_state.get_pipeline_model_parallel_prev_rank())
            model.set_input_tensor(hidden)
        result = forward(model, reference)
        if not model.post_process:
            torch.distributed.send(result.contiguous(), parallel_state.get_pipeline_model_parallel_next_rank())
            continue
        logits = gather_from_tensor_model_parallel_region(result).reshape(len(reference.tokens), -1)
        vocab_size = reference.logits.shape[1]
        assert (logits[:, vocab_size:] == 0).all(), "the padded vocabulary must be zero"
        torch.testing.assert_close(logits[:, :vocab_size], reference.logits, atol=tolerance, rtol=0)


def compare_gradients(model: Any, expected: Any, reference: Reference, geometry: ModelGeometry) -> None:
    """Of the summed loss of all documents; `expected` has them as its parameters, zeros in the padded vocabulary."""
    labels, weights = reference.labels_and_weights()
    loss = (token_losses(forward(model, reference), labels[None], geometry.vocab_size)[0] * weights).sum()
    loss.backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    for name, wanted in expected.named_parameters():
        scale = float(wanted.abs().max())
        assert scale > 1e-3, f"{name}: no gradient to compare"
        error = float((gradients[name] - wanted).abs().max())
        assert error <= TOLERANCE * scale, f"{name}: gradients differ by {error}, the largest is {scale}"
        if name in ("embedding.word_embeddings.weight", "output_layer.weight"):
            rank = parallel_state.get_tensor_model_parallel_rank()
            padding = gradients[name][max(0, geometry.vocab_size - rank * len(wanted)) :]
            assert not padding.any(), f"{name}: the padded vocabulary must get no gradient"


def forward(model: Any, reference: Reference) -> torch.Tensor:
    longest = max(reference.lengths)
    bounds = torch.tensor([0, *itertools.accumulate(reference.lengths)], dtype=torch.int32)
    packed = PackedSeqParams(
        qkv_format="thd", cu_seqlens_q=bounds, cu_seqlens_kv=bounds, max_seqlen_q=longest, max_seqlen_kv=longest
    )
    positions = torch.cat([torch.arange(length) for length in reference.lengths])
    result: torch.Tensor = model(reference.tokens[None], positions[None], None, packed_seq_params=packed)
    return result


def write(chunks: list[Any], metadata: dict[str, Any], model_dir: Path, save: Path, writer: str | None = None) -> None:
    partial = save / "iter_0000010.incomplete"
    if torch.distributed.get_rank() == 0:
        checkpoint_dir.incomplete_dir(save, 10)
    torch.distributed.barrier()
    if writer == "megatron":
        strategy = TorchDistSaveShardedStrategy("torch_dist", 1, thread_count=1)
        dist_checkpointing.save(sharded_state(chunks, metadata), str(partial), strategy)
    else:
        ShardedSave(sharded_state(chunks, metadata), partial).finish()
    torch.distributed.barrier()
    if torch.distributed.get_rank() == 0:
        collected = save / "collected"
        collected.mkdir()
        assets.collect(model_dir, collected)
        checkpoint_dir.finish(partial, {"iteration": 10, "stop_token_ids": [1]}, collected)
    torch.distributed.barrier()
