"""Shard folders written with nothing but NumPy: what docs/shard-format.md says, without the Rust writer."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

Document = Sequence[Sequence[int]]
"""Tokens of the sequences of one sample, masked and trained by turns."""


def write_folder(folder: Path, *shards: Sequence[Document]) -> Path:
    """Write one shard for each list of documents, and the manifest."""
    folder.mkdir()
    for number, documents in enumerate(shards):
        tokens = np.array([token for document in documents for sequence in document for token in sequence], dtype="<i4")
        lengths = np.array([len(sequence) for document in documents for sequence in document], dtype="<i4")
        write_shard(folder, number, tokens, lengths, np.array([len(document) for document in documents]))
    seal(folder)
    return folder


def write_shard(folder: Path, number: int, tokens: np.ndarray, lengths: np.ndarray, num_sequences: np.ndarray) -> None:
    """Write `samples-NUMBER.bin` and `.idx`.

    tokens: all ids; lengths: tokens of each sequence; num_sequences: sequences of each document.
    """
    starts = np.concatenate([[0], np.cumsum(num_sequences)]).astype("<i8")
    pointers = np.concatenate([[0], np.cumsum(lengths[:-1], dtype=np.int64)]).astype("<i8") * 4
    counts = np.array([len(lengths), len(starts)], dtype="<u8")
    header = b"MMIDIDX\x00\x00" + np.uint64(1).tobytes() + b"\x04" + counts.tobytes()
    index = header + lengths.astype("<i4").tobytes() + pointers.tobytes() + starts.tobytes()
    (folder / f"samples-{number:05}.idx").write_bytes(index)
    (folder / f"samples-{number:05}.bin").write_bytes(tokens.astype("<i4").tobytes())


def seal(folder: Path, **changes: Any) -> None:
    """Write a manifest that agrees with the sizes of the files as they are now, and with sound index tables."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text()) if path.exists() else {
        "format": "megatron-sft-shards", "format_version": 2, "fingerprint": "f", "tokenizer_fingerprint": "t",
        "stop_id": 5, "vocab_size": 20,
    }  # fmt: skip
    prefixes = sorted(file.stem for file in folder.glob("*.idx"))
    if "shards" not in manifest:
        manifest["shards"] = [{"prefix": prefix, **count(folder / f"{prefix}.idx")} for prefix in prefixes]
        totals = {key: sum(shard[key] for shard in manifest["shards"]) for key in ("num_samples", "tokens")}
        manifest |= totals | {"trained_tokens": sum(shard["trained_tokens"] for shard in manifest["shards"])}
    files = sorted(file for file in folder.iterdir() if file.suffix in (".bin", ".idx"))
    records = {
        file.name: {"size": file.stat().st_size, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
        for file in files
    }
    path.write_text(json.dumps(manifest | {"files": records} | changes))


def count(idx: Path) -> dict[str, int]:
    """Samples, tokens and trained tokens of a shard, from its index."""
    content = idx.read_bytes()
    num_sequences, num_entries = np.frombuffer(content, "<u8", 2, offset=18).tolist()
    lengths = np.frombuffer(content, "<i4", num_sequences, offset=34)
    return {"num_samples": num_entries - 1, "tokens": int(lengths.sum()), "trained_tokens": int(lengths[1::2].sum())}
