"""Which source each sample came from, as far as the shards say: the input file it was read from."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from megatron_sft.data.safe_text import neutralise

MAX_SOURCES = 32
"""So many sources have a figure of their own; the rest is one more."""
OTHER = "other"


@dataclass(frozen=True, kw_only=True)
class Sources:
    """The sources of a shard folder."""

    names: list[str]
    """What each source is called; the smallest of many are together in `other`."""
    ends: NDArray[np.int64]
    """int64[files] samples up to and with each input file: samples are in the order of the files."""
    source_of_file: NDArray[np.int64]
    """int64[files] index in `names`."""

    def of(self, samples: NDArray[np.int64]) -> NDArray[np.int64]:
        """Index in `names` of each sample, int64[n]."""
        return self.source_of_file[np.searchsorted(self.ends, samples, side="right")]

    def losses(
        self, samples: NDArray[np.int64], sums: NDArray[np.float64], trained_tokens: NDArray[np.int64]
    ) -> dict[str, float]:
        """Mean over the trained tokens of each source that has some among these samples, nats.

        Args:
            samples: int64[n] samples of a batch.
            sums: float64[n] for each sample the sum of its trained tokens' losses.
            trained_tokens: int64[n] of each sample.
        """
        sources = self.of(samples)
        totals = np.bincount(sources, weights=sums, minlength=len(self.names))
        tokens = np.bincount(sources, weights=trained_tokens, minlength=len(self.names))
        return {name: float(totals[i] / tokens[i]) for i, name in enumerate(self.names) if tokens[i]}


def sources_of(manifest: dict[str, Any]) -> Sources | None:
    """The sources of a folder by its manifest; None where they are fewer than two, or unknown.

    A source is an input file. Where there are more than `MAX_SOURCES`, it is the first folder of the files' names
    (`math/part-0001.jsonl` belongs to `math`); of these the largest keep their own figure.
    """
    inputs = [entry for entry in manifest.get("inputs", []) if entry["rows_kept"]]
    if sum(entry["rows_kept"] for entry in inputs) != manifest["num_samples"]:
        return None
    names = [entry["name"] for entry in inputs]
    if len(set(names)) > MAX_SOURCES:
        names = [name.split("/", 1)[0] for name in names]
    sizes: Counter[str] = Counter()
    for name, entry in zip(names, inputs, strict=True):
        sizes[name] += entry["rows_kept"]
    if len(sizes) < 2:
        return None
    shown = {name for name, _ in sizes.most_common(MAX_SOURCES)}
    # In the order of the inputs.
    labels = [neutralise(name) if name in shown else OTHER for name in names]
    distinct = list(dict.fromkeys(labels))
    return Sources(
        names=distinct,
        ends=np.cumsum([entry["rows_kept"] for entry in inputs], dtype=np.int64),
        source_of_file=np.array([distinct.index(label) for label in labels], dtype=np.int64),
    )
