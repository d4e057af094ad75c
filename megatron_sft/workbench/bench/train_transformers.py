"""The peers of `bench train` that a user of transformers would write: padded, or packed as TRL packs.

The model, its loss and its gradient checkpointing are transformers' own; the loop is that of its Trainer without what
surrounds it: micro-batches, one clipping, one step of torch's AdamW on weights in the precision that is asked for, as
in the paper's trainer. Two things favour these peers:

- Padding is on the right, and no mask says so: a causal model does not look there, so the outcome is the same, and
  torch's attention can take its fast kernels, which a mask rules out.
- Where flash-attn is missing, packed rows go through torch's attention a document at a time instead of a mask over the
  whole row.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from megatron_sft.data.packing import pack_rows
from megatron_sft.data.shards import Sample, ShardReader
from megatron_sft.workbench.bench.train_device import device_name, memory_peaks
from megatron_sft.workbench.bench.train_job import OUT_OF_MEMORY, Answer, Job, Step

BY_DOCUMENT = "one_document_at_a_time"
NOT_TRAINED = -100


@dataclass(frozen=True, kw_only=True)
class MicroBatch:
    """What the model gets at once."""

    inputs: dict[str, Any]
    """Tensors by the names of transformers' arguments: int64[B, T] ids and labels, and what packing needs."""

    @property
    def places(self) -> int:
        """Tokens with padding."""
        return int(self.inputs["input_ids"].numel())

    def to(self, device: torch.device) -> dict[str, Any]:
        """The inputs there."""
        return {name: x.to(device) if isinstance(x, Tensor) else x for name, x in self.inputs.items()}


def run(job: Job) -> Answer:
    """Train as the job says; running out of memory ends it with what was measured so far."""
    device = torch.device(job.device)
    reader = ShardReader(job.data)
    attention = attention_of(job, device)
    transformers.AttentionInterface.register(BY_DOCUMENT, attend_by_document)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        job.model, dtype=torch.bfloat16 if job.bf16 else torch.float32, attn_implementation=attention
    ).to(device)
    model.config.use_cache = False
    model.train()
    if job.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    optimizer = torch.optim.AdamW(model.parameters(), lr=job.lr, eps=1e-8, weight_decay=0.01, fused=not _on_cpu(device))
    steps, problem = [], None
    try:
        for iteration in range(job.iterations):
            indices = np.arange(iteration * job.batch_size, (iteration + 1) * job.batch_size)
            steps.append(train_step(job, model, optimizer, [reader.sample(int(index)) for index in indices]))
    except torch.OutOfMemoryError:
        problem = OUT_OF_MEMORY
    peak, reserved = memory_peaks(device)
    return Answer(
        versions={"device": device_name(device), "torch": torch.__version__, "transformers": transformers.__version__},
        how=f"transformers, attention {attention}, torch's AdamW on {'bf16' if job.bf16 else 'fp32'} weights"
        + (", layers recomputed" if job.gradient_checkpointing else ""),
        steps=steps,
        peak_bytes=peak,
        reserved_bytes=reserved,
        problem=problem,
    )


def attention_of(job: Job, device: torch.device) -> str:
    """Name of the attention in transformers' registry: flash-attn where it is installed, else torch's."""
    if not _on_cpu(device) and job.bf16 and transformers.utils.is_flash_attn_2_available():
        return "flash_attention_2"
    return BY_DOCUMENT if job.peer == "packed" else "sdpa"


def train_step(job: Job, model: Any, optimizer: torch.optim.Optimizer, samples: list[Sample]) -> Step:
    """One iteration over one batch."""
    device = next(model.parameters()).device
    started = time.perf_counter()
    micro_batches = list(packed(job, samples) if job.peer == "packed" else padded(job, samples))
    data_s = time.perf_counter() - started
    # The mean over the trained tokens of the whole batch, whatever the micro-batches.
    num_trained = sum(int(sample.trained.sum()) for sample in samples)
    loss = torch.zeros((), device=device)
    for micro_batch in micro_batches:
        share = model(**micro_batch.to(device), num_items_in_batch=num_trained).loss
        share.backward()
        loss += share.detach()
    _synchronize(device)
    computed = time.perf_counter()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    _synchronize(device)
    ended = time.perf_counter()
    return Step(
        loss=float(loss),
        grad_norm=float(norm),
        tokens=sum(len(sample.tokens) for sample in samples),
        places=sum(micro_batch.places for micro_batch in micro_batches),
        num_rows=len(micro_batches),
        seconds=ended - started,
        data_s=data_s,
        forward_backward_s=computed - started - data_s,
        update_s=ended - computed,
    )


def padded(job: Job, samples: list[Sample]) -> Iterator[MicroBatch]:
    """Samples in their order, each as long as the longest beside it, or as `padded_length`."""
    for start in range(0, len(samples), job.micro_batch_size):
        group = samples[start : start + job.micro_batch_size]
        longest = max(len(sample.tokens) for sample in group)
        length = job.padded_length if job.peer == "padded-fixed" else longest
        tokens = np.zeros((len(group), length), dtype=np.int64)
        labels = np.full((len(group), length), NOT_TRAINED, dtype=np.int64)
        for row, sample in enumerate(group):
            tokens[row, : len(sample.tokens)] = sample.tokens
            labels[row, : len(sample.tokens)] = labels_of(sample)
        inputs = {"input_ids": torch.from_numpy(tokens), "labels": torch.from_numpy(labels)}
        yield MicroBatch(inputs=inputs)


def packed(job: Job, samples: list[Sample]) -> Iterator[MicroBatch]:
    """Rows of whole samples, best fit decreasing, without padding; positions restart with each sample."""
    lengths = np.array([len(sample.tokens) for sample in samples])
    rows = pack_rows(lengths, job.seq_length)
    for number in range(len(rows)):
        group = [samples[index] for index in rows.row(number)]
        row_lengths = lengths[rows.row(number)]
        bounds = torch.from_numpy(np.concatenate([[0], np.cumsum(row_lengths)]).astype(np.int32))
        inputs = {
            "input_ids": _one_row([sample.tokens for sample in group]),
            # A prompt is never trained, so no label asks a sample for the first token of the next one.
            "labels": _one_row([labels_of(sample) for sample in group]),
            "position_ids": _one_row([np.arange(length) for length in row_lengths]),
            "cu_seq_lens_q": bounds,
            "cu_seq_lens_k": bounds,
            "max_length_q": int(row_lengths.max()),
            "max_length_k": int(row_lengths.max()),
            # On the host: reading the bounds from the device in each layer would hold it up.
            "document_bounds": bounds.tolist(),
        }
        yield MicroBatch(inputs=inputs)


def labels_of(sample: Sample) -> NDArray[np.int64]:
    """int64[n] the tokens where they are trained; transformers shifts them."""
    return np.where(sample.trained > 0, sample.tokens.astype(np.int64), NOT_TRAINED)


def attend_by_document(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    document_bounds: list[int],
    **_: Any,
) -> tuple[Tensor, None]:
    """Torch's causal attention for each document of a packed row.

    Args:
        module: unused.
        query: [1, heads, T, head width].
        key: [1, groups, T, head width]; `value` the same.
        value: see `key`.
        attention_mask: None.
        scaling: of the scores.
        document_bounds: N + 1 places, from 0 to T.

    Returns:
        [1, T, heads, head width], and no weights.
    """
    assert attention_mask is None, "documents are told by their boundaries"
    lengths = [end - start for start, end in pairwise(document_bounds)]
    queries, keys, values = (torch.split(x, lengths, dim=2) for x in (query, key, value))
    outputs = [
        scaled_dot_product_attention(q, k, v, is_causal=True, scale=scaling, enable_gqa=True)
        for q, k, v in zip(queries, keys, values, strict=True)
    ]
    return torch.cat(outputs, dim=2).transpose(1, 2), None


def _one_row(parts: list[NDArray[Any]]) -> Tensor:
    return torch.from_numpy(np.concatenate(parts).astype(np.int64))[None]


def _on_cpu(device: torch.device) -> bool:
    return device.type == "cpu"


def _synchronize(device: torch.device) -> None:
    if not _on_cpu(device):
        torch.cuda.synchronize(device)
