"""A folder with nothing but a SentencePiece model: ids equal those of the SentencePiece library itself."""

import json
import os
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from megatron_sft.data.chat import ChatTokenizer
from megatron_sft.errors import UserError
from tests.data.test_native_parity import trace_rows

NUM_STRINGS = int(os.environ.get("MEGATRON_SFT_FUZZ_STRINGS", "3000"))
"""Random strings to compare."""
PIECES = [
    *"aZ09 \n\t\r.,;:!?'\"\\{}$^_+-*/=<>|~`",
    *("\u00e9", "e\u0301", "\u200d", "\u200b", "\ufeff", "\u00a0", "\u3000", "\u2581", "\x01", "\U0010fffd"),
    *(
        "中",
        "文",
        "日本語",
        "한국어",
        "שלום",
        "مرحبا",
        "ไทย",
        "हिन्दी",
        "\U0001d538",
        "😀",
        "👩\u200d🔬",
        "\uff25",
        "\uff26",
    ),
    *("the ", " number", "\\frac{1}{2}", "12345678", "0.5", "\n\n", "    "),
    *("</s>", "<unk>", "<0x41>", "[UNUSED_TOKEN_3]"),
]


def random_text(rng: random.Random) -> str:
    if rng.random() < 0.3:
        planes = ((0x20, 0x7E), (0xA0, 0x2FF), (0x300, 0x36F), (0x370, 0xD7FF), (0xE000, 0xFFFD), (0x10000, 0x10FFFF))
        return "".join(chr(rng.randint(*rng.choice(planes))) for _ in range(rng.randint(1, 30)))
    return "".join(rng.choice(PIECES) * rng.choice((1, 1, 1, 2, 7)) for _ in range(rng.randint(1, 25)))


@pytest.fixture(scope="module")
def folder(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("internlm2")
    shutil.copy(shared_data / "tokenizers" / "internlm2" / "tokenizer.model", folder)
    config = {"eos_token": "</s>", "bos_token": "<s>", "chat_template": "{{ messages[0].content }}"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def reference(folder: Path) -> Any:
    sentencepiece = pytest.importorskip("sentencepiece")
    return sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))


def test_real_traces_and_random_strings(folder: Path, reference: Any, shared_data: Path) -> None:
    tokenizer, rng = ChatTokenizer(folder), random.Random(0)
    texts = [row["response"] for row in trace_rows(shared_data)][::20]
    # SentencePiece cuts a text at NUL and reads the names of its control pieces as text; for these see below.
    texts += [random_text(rng).replace("\0", "").replace("</s>", "").replace("<unk>", "") for _ in range(NUM_STRINGS)]
    different = [text for text in texts if tokenizer.encode(text) != reference.encode(text)]
    assert different == []


def test_names_of_control_pieces_become_their_ids(folder: Path) -> None:
    """As in every Hugging Face tokenizer: the text of a special token is the token."""
    tokenizer = ChatTokenizer(folder)
    assert tokenizer.encode("</s>") == [tokenizer.eos_id] == [2]
    assert tokenizer.decode(tokenizer.encode("a 中\U0010fffd b")) == "a 中\U0010fffd b"


def test_a_damaged_model_is_named(folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "tokenizer_config.json", tmp_path)
    (tmp_path / "tokenizer.model").write_bytes((folder / "tokenizer.model").read_bytes()[:-100])
    with pytest.raises(UserError, match=r"tokenizer\.model: is not a SentencePiece model, or is cut off"):
        ChatTokenizer(tmp_path)
