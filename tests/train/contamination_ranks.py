"""Changes one document of a row and compares the logits of all: `torchrun contamination_ranks.py MODEL LAYOUTS`.

LAYOUTS is a JSON object of layouts by name. Every rank compares the logits that it holds, and rank 0 prints a JSON
object: by layout, places of the other documents with other logits, places of the changed document with other logits,
and places of both kinds, over all ranks.
"""

import json
import sys
from functools import partial
from pathlib import Path

import megatron_sft.model.lean_megatron  # noqa: F401

import numpy as np
import torch
from megatron.core.pipeline_parallel import get_forward_backward_func

from megatron_sft.convert.hf_weights import load_hf_into
from megatron_sft.data.shards import RowArrays
from megatron_sft.model.attention import local_places
from megatron_sft.model.device import process_group, select_device
from megatron_sft.model.geometry import ModelGeometry
from megatron_sft.model.gpt import (
    build_chunks,
    context_parallel_rank,
    model_parallel,
    transformer_config,
)
from megatron_sft.model.layout import ParallelLayout
from megatron_sft.train.batch import to_row
from megatron_sft.train.row_layout import pad_documents, share_of_rank

LENGTHS = (24, 7, 33, 16)
CHANGED = 1
ROW = 96


def row_with(changed: list[int]) -> RowArrays:
    """A row of four documents; the second one has these tokens."""
    generator = np.random.default_rng(0)
    documents = [generator.integers(1, 300, length).tolist() for length in LENGTHS]
    documents[CHANGED] = changed
    tokens = np.concatenate(documents)
    return RowArrays(
        tokens=tokens,
        labels=np.zeros_like(tokens),
        loss_weights=np.zeros(len(tokens), dtype=np.float32),
        position_ids=np.concatenate([np.arange(length) for length in LENGTHS]),
        cu_seqlens=np.cumsum([0, *LENGTHS], dtype=np.int32),
        max_seqlen=max(LENGTHS),
        num_real_tokens=len(tokens),
    )


def logits_of(row: RowArrays, layout: ParallelLayout, chunks: list[torch.nn.Module]) -> torch.Tensor | None:
    """[P, V / tp] of this rank; None where it does not hold the last stage."""
    batch = to_row(share_of_rank(row, context_parallel_rank(), layout.context_parallel_size))
    found = []

    def keep(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
        found.append(logits[0].detach().clone())
        return logits.sum(), torch.ones((), dtype=torch.int32), {}

    def forward(rows, model):
        row = next(rows)
        return model(row.tokens, row.position_ids, None, packed_seq_params=row.packed_seq_params()), partial(keep)

    num_rows = layout.rows_per_rank_multiple
    get_forward_backward_func()(
        forward_step_func=forward,
        data_iterator=[iter([batch] * num_rows) for _ in chunks],
        model=chunks,
        num_microbatches=num_rows,
        seq_length=ROW,
        micro_batch_size=1,
        forward_only=True,
    )
    return found[0] if found else None


def compare(model: Path, layout: ParallelLayout, device) -> list[int]:
    """The four numbers of a layout."""
    geometry = ModelGeometry.from_hf_config(model)
    with model_parallel(layout):
        chunks = build_chunks(transformer_config(geometry, layout, device, dtype=torch.float32), geometry, device)
        for chunk in chunks:
            load_hf_into(chunk, geometry, model)
        rows = [
            pad_documents(row_with(tokens), layout.document_multiple, ROW)
            for tokens in (list(range(1, 8)), list(range(101, 108)))
        ]
        before, after = (logits_of(row, layout, chunks) for row in rows)
        counts = torch.zeros(4, dtype=torch.int64)
        if before is not None:
            bounds = torch.from_numpy(rows[0].cu_seqlens)
            places = local_places(bounds, context_parallel_rank(), layout.context_parallel_size)
            is_changed = (places >= bounds[CHANGED]) & (places < bounds[CHANGED + 1])
            differs = (before != after).any(-1)
            for number, kind in enumerate((~is_changed & differs, is_changed & differs, ~is_changed, is_changed)):
                counts[number] = kind.sum()
        torch.distributed.all_reduce(counts)
        return counts.tolist()


def main() -> None:
    """Print the numbers of all layouts."""
    device = select_device("cpu")
    model, layouts = Path(sys.argv[1]), json.loads(sys.argv[2])
    with process_group(device), device.activate():
        found = {name: compare(model, ParallelLayout(**values), device) for name, values in layouts.items()}
        if torch.distributed.get_rank() == 0:
            print(json.dumps(found))


if __name__ == "__main__":
    main()
