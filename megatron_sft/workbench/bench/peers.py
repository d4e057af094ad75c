"""The other ways to turn rows of traces into token ids, each one a program that runs in a process of its own.

`python -m megatron_sft.workbench.bench.peers NAME CORPUS TOKENIZER_JSON OUTPUT WORKERS BATCH` prints one JSON object:
`tokens`, and for a tokenizer alone the `cpu` and `wall` seconds of encoding, without start-up, parsing and the loading
of the tokenizer. The rendered prompt is ChatML, the template of the tokenizers that the corpus is meant for, written
out as a script would write it.
"""

import json
import multiprocessing
import sys
import time
from array import array
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

EOS = "<|im_end|>"


def render(row: dict[str, Any]) -> str:
    """The prompt of a row in ChatML, with the generation prompt."""
    turns = "".join(f"<|im_start|>{turn['role']}\n{turn['content']}{EOS}\n" for turn in row["message"])
    return f"{turns}<|im_start|>assistant\n"


def write_index(path: Path, lengths: list[int], sequences_per_document: int) -> None:
    """Write the `.idx` file of an IndexedDataset of int32 for sequences of `lengths` tokens."""
    sizes = np.array(lengths, np.int32)
    pointers = np.zeros(len(sizes), np.int64)
    np.cumsum(sizes[:-1], dtype=np.int64, out=pointers[1:])
    documents = np.arange(0, len(sizes) + 1, sequences_per_document, dtype=np.int64)
    with path.open("wb") as file:
        file.write(b"MMIDIDX\x00\x00" + (1).to_bytes(8, "little") + (4).to_bytes(1, "little"))
        file.write(np.array([len(sizes), len(documents)], "<u8").tobytes())
        file.write(sizes.tobytes() + (pointers * 4).tobytes() + documents.tobytes())


# ---- Megatron-LM's way: a pool of processes, one document at a time ----

_worker_tokenizer: Any = None


def _start_worker(tokenizer_json: str) -> None:
    global _worker_tokenizer
    from tokenizers import Tokenizer

    _worker_tokenizer = Tokenizer.from_file(tokenizer_json)


def _encode_line(line: bytes) -> list[int]:
    row = json.loads(line)
    ids: list[int] = _worker_tokenizer.encode(render(row) + row["response"], add_special_tokens=False).ids
    return [*ids, _worker_tokenizer.token_to_id(EOS)]


def megatron(corpus: Path, tokenizer_json: str, output: Path, workers: int, batch: int) -> dict[str, Any]:
    """A pool of `workers` processes tokenizes documents, `batch` of them at a time; this process writes them.

    The writer is Megatron-Core's builder where that is installed, else a few lines of numpy.
    """
    writer = _indexed_dataset_writer(output)
    num_tokens = 0
    with corpus.open("rb") as file, multiprocessing.Pool(workers, _start_worker, (tokenizer_json,)) as pool:
        for ids in pool.imap(_encode_line, file, batch):
            writer.add(ids)
            num_tokens += len(ids)
        pool.close()
        pool.join()
    writer.finish()
    return {"tokens": num_tokens, "writer": type(writer).__name__}


class CoreWriter:
    """Writes through `megatron.core`'s IndexedDatasetBuilder."""

    def __init__(self, output: Path, builder: Any, torch: Any) -> None:
        self._prefix, self._torch = str(output), torch
        self._builder = builder(self._prefix + ".bin", dtype=np.int32)

    def add(self, ids: list[int]) -> None:
        """Append one document of one sequence."""
        self._builder.add_document(self._torch.IntTensor(ids), [len(ids)])

    def finish(self) -> None:
        """Write the index."""
        self._builder.finalize(self._prefix + ".idx")


class NumpyWriter:
    """Writes the same two files with numpy."""

    def __init__(self, output: Path) -> None:
        self._output, self._lengths = output, list[int]()
        self._file = output.with_suffix(".bin").open("wb")

    def add(self, ids: list[int]) -> None:
        """Append one document of one sequence."""
        self._file.write(np.array(ids, np.int32).tobytes())
        self._lengths.append(len(ids))

    def finish(self) -> None:
        """Write the index."""
        self._file.close()
        write_index(self._output.with_suffix(".idx"), self._lengths, 1)


def _indexed_dataset_writer(output: Path) -> CoreWriter | NumpyWriter:
    try:
        import torch
        from megatron.core.datasets.indexed_dataset import IndexedDatasetBuilder
    except ImportError:
        return NumpyWriter(output)
    return CoreWriter(output, IndexedDatasetBuilder, torch)


# ---- a good script: orjson, fastokens' flat call, numpy ----


def script(corpus: Path, tokenizer_json: str, output: Path, _workers: int, batch: int) -> dict[str, Any]:
    """The fastest way that is still short: batches through `encode_batch_flat`, its buffer written as it is.

    Two sequences for each document, prompt and response; the stop token is appended as text, which the tokenizer turns
    into its id. No row is checked, none left out.
    """
    import fastokens
    import orjson

    tokenizer = fastokens.Tokenizer.from_file(tokenizer_json)
    lengths = array("i")
    with corpus.open("rb") as lines, output.with_suffix(".bin").open("wb") as file:
        for part in _batches(lines, batch):
            texts = []
            for line in part:
                row = orjson.loads(line)
                texts.append(render(row))
                texts.append(row["response"] + EOS)
            ids, offsets = tokenizer.encode_batch_flat(texts)
            file.write(ids)
            lengths.extend(np.diff(np.frombuffer(offsets, np.uint64)).astype(np.int32).tolist())
    write_index(output.with_suffix(".idx"), lengths.tolist(), 2)
    return {"tokens": sum(lengths)}


def _batches(lines: BinaryIO, size: int) -> Iterator[list[bytes]]:
    while part := list(islice(lines, size)):
        yield part


# ---- tokenizers alone ----


def fastokens_alone(corpus: Path, tokenizer_json: str, _output: Path, _workers: int, batch: int) -> dict[str, Any]:
    """fastokens' `encode_batch_flat` over texts that are parsed already; nothing is written."""
    import fastokens

    texts = _texts(corpus)
    return _timed(
        texts,
        batch,
        lambda: fastokens.Tokenizer.from_file(tokenizer_json),
        lambda tokenizer, part: len(tokenizer.encode_batch_flat(part)[0]) // 4,
    )


def tokenizers_alone(corpus: Path, tokenizer_json: str, _output: Path, _workers: int, batch: int) -> dict[str, Any]:
    """Hugging Face's `encode_batch` over texts that are parsed already; nothing is written."""
    from tokenizers import Tokenizer

    texts = _texts(corpus)
    return _timed(
        texts,
        batch,
        lambda: Tokenizer.from_file(tokenizer_json),
        lambda tokenizer, part: sum(len(e) for e in tokenizer.encode_batch(part, add_special_tokens=False)),
    )


def _texts(corpus: Path) -> list[str]:
    """Prompts and responses in turn."""
    with corpus.open("rb") as file:
        return [text for row in map(json.loads, file) for text in (render(row), row["response"] + EOS)]


def _timed(
    texts: list[str], batch: int, load: Callable[[], Any], encode: Callable[[Any, list[str]], int]
) -> dict[str, Any]:
    """Tokens, and the cpu and wall seconds of encoding."""
    tokenizer = load()
    cpu, wall = time.process_time(), time.perf_counter()
    tokens = sum(encode(tokenizer, texts[i : i + 2 * batch]) for i in range(0, len(texts), 2 * batch))
    return {"tokens": tokens, "cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}


PEERS: dict[str, Callable[[Path, str, Path, int, int], dict[str, Any]]] = {
    "megatron": megatron,
    "script": script,
    "fastokens": fastokens_alone,
    "tokenizers": tokenizers_alone,
}


def main(arguments: list[str]) -> None:
    """Run one peer and print what it counted."""
    name, corpus, tokenizer_json, output, workers, batch = arguments
    print(json.dumps(PEERS[name](Path(corpus), tokenizer_json, Path(output), int(workers), int(batch))))


if __name__ == "__main__":
    main(sys.argv[1:])
