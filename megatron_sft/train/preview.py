"""The first sample as the trainer takes it, so that a wrong template or mask is seen before it is paid for."""

from collections.abc import Iterator

import numpy as np

from megatron_sft.data.chat import ChatTokenizer
from megatron_sft.data.safe_text import neutralise
from megatron_sft.data.sample_view import COLOURS, RESET, spans
from megatron_sft.data.shards import RowArrays, Sample, ShardReader

_NUM_TOKENS = 24
"""Shown on each side of the boundary, and of the end."""
_MARKS = str.maketrans({"«": "\\xab", "»": "\\xbb"})


def describe_first_sample(
    reader: ShardReader, row_samples: list[int], tokenizer: ChatTokenizer, *, coloured: bool
) -> Iterator[str]:
    """Lines about the first document of a packed row: its length, its boundary and its end, with the mask.

    Trained text stands between « and », or in the colours of `tools/inspect_shards`. No character of the text can steer
    the terminal.

    Args:
        reader: the shards.
        row_samples: samples of the row.
        tokenizer: the one that the shards were made with.
        coloured: colours instead of « ».
    """
    sample = first_document(reader.fill_row(row_samples, None, 1.0))
    tokens, num_trained = sample.tokens.tolist(), int(sample.trained.sum())
    marks = "in colour" if coloured else "between « and »"
    yield (
        f"sample {row_samples[0]}, first of {len(row_samples)} in the first row: {len(tokens)} tokens, {num_trained} "
        f"trained ({marks})"
    )
    boundary = int(np.argmax(sample.trained))
    for centre in (boundary, len(tokens)):
        start, end = max(0, centre - _NUM_TOKENS), min(len(tokens), centre + _NUM_TOKENS)
        text = _marked(Sample(sample.tokens[start:end], sample.trained[start:end]), tokenizer, coloured)
        yield f"{'... ' if start else ''}{text}{' ...' if end < len(tokens) else ''}"
    yield _stop_token(reader, sample, tokenizer)


def first_document(row: RowArrays) -> Sample:
    """The first document of a row as labels and weights have it: the trained token stands behind its place."""
    end = int(row.cu_seqlens[1])
    tokens = row.tokens[:end].astype(np.int32)
    trained = np.concatenate(([0], row.loss_weights[: end - 1] > 0)).astype(np.uint8)
    asked = row.labels[: end - 1][trained[1:] == 1]
    assert (asked == tokens[trained == 1]).all(), "labels are the tokens that follow"
    return Sample(tokens, trained)


def _marked(sample: Sample, tokenizer: ChatTokenizer, coloured: bool) -> str:
    parts = []
    for start, end, trained in spans(sample):
        text = neutralise(tokenizer.decode(sample.tokens[start:end].tolist()))
        if coloured:
            parts.append(f"{COLOURS[trained]}{text}{RESET}")
        else:
            # Marks that are part of the text must not pass for ours.
            text = text.translate(_MARKS)
            parts.append(f"«{text}»" if trained else text)
    return "".join(parts)


def _stop_token(reader: ShardReader, sample: Sample, tokenizer: ChatTokenizer) -> str:
    stop, last = reader.stop_token_id, int(sample.tokens[-1])
    text = neutralise(repr(tokenizer.decode([stop])))
    if last != stop:
        return f"stop token: id {stop} {text}; the sample ends with id {last} instead"
    return f"stop token: id {stop} {text} ends the sample and is {'trained' if sample.trained[-1] else 'not trained'}"
