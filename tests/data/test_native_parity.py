"""Ids against Hugging Face's tokenizer: on every collected trace, on random Unicode, and through a whole build."""

import gzip
import json
import random
import shutil
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from megatron_sft.data.build_shards import BuildShardsConfig, FilterConfig, main
from megatron_sft.data.chat import ChatTokenizer
from megatron_sft.data.shards import ShardReader

# The fields of the collected files that hold the question and the response; a trace of its own goes in front.
QUESTIONS = ("question", "problem", "instruction", "prompt", "input")
RESPONSES = ("response", "output", "message_content", "solution", "model_prediction")
TRACES = ("thinking", "message_thinking")

NO_FILTERS = FilterConfig(
    think="off", empty_answer=False, max_loop_tokens=None, max_loop_share=None, max_undecodable_share=None
)


@pytest.fixture(scope="module")
def qwen3(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Qwen3's tokenizer folder with `tokenizer.json` unpacked, as transformers needs it."""
    folder = tmp_path_factory.mktemp("qwen3")
    source = shared_data / "tokenizers" / "qwen3"
    shutil.copyfile(source / "tokenizer_config.json", folder / "tokenizer_config.json")
    with gzip.open(source / "tokenizer.json.gz") as packed:
        (folder / "tokenizer.json").write_bytes(packed.read())
    return folder


@pytest.fixture(scope="module")
def reference(qwen3: Path) -> Any:
    """Hugging Face's tokenizer of that folder."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    return transformers.AutoTokenizer.from_pretrained(qwen3)


def trace_rows(shared_data: Path) -> Iterator[dict[str, str]]:
    """All rows of all trace files, as rows of `build_shards`."""
    files = sorted((shared_data / "traces").iterdir())
    assert files
    for path in files:
        content = path.read_bytes()
        text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8")
        # Not splitlines(): it also cuts at U+2028, which JSON strings may contain.
        rows = [json.loads(line) for line in text.split("\n") if line] if ".jsonl" in path.name else json.loads(text)
        assert rows
        for number, row in enumerate(rows, start=1):
            response = next((row[field] for field in RESPONSES if row.get(field)), None)
            trace = next((row[field] for field in TRACES if row.get(field)), None)
            if isinstance(response, dict):
                response = json.dumps(response, ensure_ascii=False)
            if response is None:
                response = f"<think>\n{trace}"  # cut off inside its trace
            elif trace is not None:
                response = f"<think>\n{trace}\n</think>\n\n{response}"
            yield {
                "id": f"{path.name}:{number}",
                "prompt": next(row[field] for field in QUESTIONS if row.get(field)),
                "response": response,
            }


def differing(mine: list[list[int]], theirs: list[list[int]], names: list[str]) -> list[str]:
    return [name for a, b, name in zip(mine, theirs, names, strict=True) if a != b]


@pytest.mark.slow
def test_every_text_of_the_collected_traces(qwen3: Path, reference: Any, shared_data: Path) -> None:
    rows = list(trace_rows(shared_data))
    assert len(rows) == 2351
    texts = [text for row in rows for text in (row["prompt"], row["response"])]
    names = [f"{row['id']} {part}" for row in rows for part in ("prompt", "response")]
    chat = ChatTokenizer(qwen3)
    expected = reference(texts, add_special_tokens=False)["input_ids"]
    assert differing([chat.encode(text) for text in texts], expected, names) == []


@pytest.mark.slow
def test_shards_of_the_collected_traces(qwen3: Path, reference: Any, shared_data: Path, tmp_path: Path) -> None:
    """The whole path: rendered prompt, response, stop token, in input order, equal to Hugging Face's."""
    rows = list(trace_rows(shared_data))
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    main(
        BuildShardsConfig(
            inputs=(str(tmp_path / "rows.jsonl"),),
            output=tmp_path / "out",
            tokenizer=qwen3,
            max_length=1_000_000,
            keep_duplicates=True,
            filters=NO_FILTERS,
        )
    )
    reader = ShardReader(tmp_path / "out", verify=True)
    blank = [row for row in rows if not row["response"].strip()]
    rows = [row for row in rows if row["response"].strip()]
    assert reader.num_samples == len(rows) == 2350
    assert reader.manifest["counts"]["rejected_by_reason"] == {"empty_response": len(blank)}
    prompts = [
        reference.apply_chat_template(
            [{"role": "user", "content": row["prompt"]}], add_generation_prompt=True, tokenize=False
        )
        for row in rows
    ]
    prompt_ids = reference(prompts, add_special_tokens=False)["input_ids"]
    response_ids = reference([row["response"] for row in rows], add_special_tokens=False)["input_ids"]
    for index, row in enumerate(rows):
        sample = reader.sample(index)
        expected = prompt_ids[index] + response_ids[index] + [reference.eos_token_id]
        assert sample.tokens.tolist() == expected, row["id"]
        assert int(sample.trained.argmax()) == len(prompt_ids[index]), row["id"]


def random_texts(count: int, seed: int) -> list[str]:
    """Strings over all of Unicode, rich in what tokenizers get wrong: white space, marks, digits, special tokens."""
    rng = random.Random(seed)
    pieces = [
        *["<|im_end|>", "<|im_start|>", "<|endoftext|>", "<think>", "</think>", "<|im_en", "<tool_call>", "|>"],
        *[" ", "  ", "\n", "\r\n", "\t", "\u00a0", "\u3000", "\u200b", "\u2028", "\x1f", "\x85", "\x00"],
        *["'s", "'LL", "don't", "\u017f", "\u0130", "\u00df", "\u0301", "\u0327\u0301", "e\u0301"],
        *["\uac01", "\u1100\u1161\u11a8", "\u212b", "\ufb01", "\u2460", "\u0663", "\u096b"],
        *["\\boxed{", "}", "$$", "123456", "3.14", "1,000", "👩‍👩‍👧", "🇩🇪", "中文", "ไทย", "עברית", "\ufeff", "\ufffd"],
    ]

    def character() -> str:
        while True:
            code = rng.choice((rng.randrange(0x80), rng.randrange(0x3000), rng.randrange(0x110000)))
            if unicodedata.category(chr(code)) != "Cs":
                return chr(code)

    return [
        "".join(rng.choice(pieces) if rng.random() < 0.4 else character() for _ in range(rng.randrange(1, 40)))
        for _ in range(count)
    ]


def test_random_unicode_and_special_tokens(qwen3: Path, reference: Any) -> None:
    texts = random_texts(4000, seed=20)
    chat = ChatTokenizer(qwen3)
    expected = reference(texts, add_special_tokens=False)["input_ids"]
    assert differing([chat.encode(text) for text in texts], expected, [ascii(text) for text in texts]) == []
    assert any(chat.eos_id in ids for ids in expected)


def test_decoding_equals_hugging_face(qwen3: Path, reference: Any) -> None:
    chat = ChatTokenizer(qwen3)
    for text in random_texts(300, seed=21):
        ids = chat.encode(text)
        assert chat.decode(ids) == reference.decode(ids)


def test_properties_equal_hugging_face(qwen3: Path, reference: Any) -> None:
    chat = ChatTokenizer(qwen3)
    assert chat.vocab_size == len(reference)
    assert (chat.eos_id, chat.eos_token) == (reference.eos_token_id, reference.eos_token)
    assert chat.encode("<think>\n</think>")[0] == 151667


def test_random_unicode_with_the_tiny_tokenizer(tiny_tokenizer: Path) -> None:
    """The same without collected data: against the tokenizers wheel itself."""
    plain = Tokenizer.from_file(str(tiny_tokenizer / "tokenizer.json"))
    chat = ChatTokenizer(tiny_tokenizer)
    texts = random_texts(2000, seed=22)
    expected = [encoding.ids for encoding in plain.encode_batch(texts, add_special_tokens=False)]
    assert differing([chat.encode(text) for text in texts], expected, [ascii(text) for text in texts]) == []


@pytest.mark.trainer
def test_megatron_reads_the_shards(tiny_tokenizer: Path, tmp_path: Path) -> None:
    indexed_dataset = pytest.importorskip("megatron.core.datasets.indexed_dataset")
    rows = [{"prompt": f"{i} + 1?", "response": f"<think>{'x' * i}</think> {i + 1}"} for i in range(100)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    main(
        BuildShardsConfig(
            inputs=(str(tmp_path / "rows.jsonl"),), output=tmp_path / "out", tokenizer=tiny_tokenizer, max_length=500
        )
    )
    dataset = indexed_dataset.IndexedDataset(str(tmp_path / "out" / "samples-00000"))
    chat, reader = ChatTokenizer(tiny_tokenizer), ShardReader(tmp_path / "out")
    assert len(dataset) == 200
    assert dataset.document_indices.tolist() == list(range(0, 201, 2))
    for i, row in enumerate(rows):
        prompt, response = dataset[2 * i].tolist(), dataset[2 * i + 1].tolist()
        assert prompt == chat.encode_prompt([{"role": "user", "content": row["prompt"]}])
        assert response == [*chat.encode(row["response"]), chat.eos_id]
        assert reader.sample(i).tokens.tolist() == prompt + response
