"""What a data card tells: numbers from a finished set's files, three samples with their masks."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from megatron_sft.data.chat import ChatTokenizer
from megatron_sft.data.sample_view import spans
from megatron_sft.data.shards import ShardReader

NUM_SAMPLES = 3


@dataclass(frozen=True, kw_only=True)
class Span:
    """A run of tokens that are trained or masked alike."""

    trained: bool
    num_tokens: int
    text: str


@dataclass(frozen=True, kw_only=True)
class Facts:
    """All of it."""

    dataset: dict[str, Any]
    """The content of `dataset.json`."""
    lengths: NDArray[np.int64]
    """int64[rows]: tokens of each response, without the stop token."""
    max_length: int
    """Most tokens of a sample."""
    accepted: list[tuple[int, int, int]] = field(default_factory=list)
    """Responses, accepted ones, number of queries."""
    finish_reasons: dict[str, int] = field(default_factory=dict)
    """Responses by their finish reason, where the traces tell it."""
    samples: list[tuple[int, list[Span]]] = field(default_factory=list)
    """Number and spans of three samples."""

    @property
    def num_queries(self) -> int:
        """Queries that were answered."""
        return sum(num for _, _, num in self.accepted)

    @property
    def has_several(self) -> bool:
        """Whether queries had more than one response."""
        return any(count > 1 for count, _, _ in self.accepted)


def gather(output: Path, dataset: dict[str, Any], tokenizer: ChatTokenizer) -> Facts:
    """Read what the card needs.

    Args:
        output: the set's folder, with shards and rows.
        dataset: the content of `dataset.json`.
        tokenizer: the student's.
    """
    reader = ShardReader(output / "shards")
    # Where the rows were made on the way to this set, the teacher's answers are counted there.
    made = output / "base" if "base-rows" in dataset["stages"] else output
    account = made / "rows" / "account.json"
    content = json.loads(account.read_text(encoding="utf-8"))
    return Facts(
        dataset=dataset,
        lengths=_lengths(output / "rows.parquet"),
        max_length=int(reader.manifest["configuration"]["max_length"]),
        accepted=[(int(n), int(k), int(num)) for n, k, num in content["accepted_of_responses"]],
        finish_reasons=content["finish_reasons"],
        samples=[(index, _spans(reader, index, tokenizer)) for index in _chosen(reader.num_samples)],
    )


def _lengths(rows: Path) -> NDArray[np.int64]:
    from pyarrow import parquet

    column = parquet.read_table(rows, columns=["response_length"])["response_length"]
    return np.asarray(column.to_numpy(), dtype=np.int64)


def _chosen(num_samples: int) -> list[int]:
    """Return the first, the middle and the last sample, each once."""
    return sorted({0, num_samples // 2, num_samples - 1})[:NUM_SAMPLES]


def _spans(reader: ShardReader, index: int, tokenizer: ChatTokenizer) -> list[Span]:
    sample = reader.sample(index)
    return [
        Span(trained=trained, num_tokens=end - start, text=tokenizer.decode(sample.tokens[start:end].tolist()))
        for start, end, trained in spans(sample)
    ]
