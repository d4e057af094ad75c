"""How trained and masked tokens are told apart wherever a sample is shown."""

import itertools
import os
from collections.abc import Iterator
from typing import TextIO

import numpy as np

from megatron_sft.data.shards import Sample

COLOURS = {False: "\x1b[36m", True: "\x1b[33m"}
"""Of masked and of trained text."""
RESET = "\x1b[0m"
NAMES = {False: "masked", True: "trained"}


def shows_colours(stream: TextIO) -> bool:
    """Whether a stream is a terminal whose user wants colours."""
    return stream.isatty() and not os.environ.get("NO_COLOR")


def spans(sample: Sample) -> Iterator[tuple[int, int, bool]]:
    """Start, end and kind of each run of tokens that are trained or masked alike."""
    cuts = [0, *(np.flatnonzero(np.diff(sample.trained.astype(np.int8))) + 1).tolist(), len(sample.tokens)]
    for start, end in itertools.pairwise(cuts):
        yield start, end, bool(sample.trained[start])
