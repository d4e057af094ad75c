"""The trained tokenizer: the same ids in every library that reads the folder, one token per digit, the same bytes."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from megatron_sft.data.make_tokenizer import MakeTokenizerConfig, main, make_tokenizer
from megatron_sft.errors import ConfigError, DataError, UserError

ROOT = Path(__file__).resolve().parents[2]
MESSAGES = [{"role": "user", "content": "What is 407 + 88?\nAnswer in \\boxed{}."}]
TEXTS = [
    "What is 407 + 88?",
    "<think>\n7 + 8 = 15, carry 1\n</think>\n\n\\boxed{495}<|im_end|>",
    "  two  spaces,\ttab\r\n\r\nlines \n",
    "Ünïcödé 東京 🙂 e\u0301 it's ¾ ٣",
    "<|im_start|>user\n<|endoftext|>",
    "",
]


def write_rows(path: Path, num_rows: int = 60) -> Path:
    rows = [
        {
            "id": str(a),
            "message": [
                {"role": "user", "content": f"What is {a} + {2 * a}?\nReason step by step, then answer in \\boxed{{}}."}
            ],
            "response": f"<think>\n{a} + {2 * a} = {3 * a}, carry {a // 10}\n</think>\n\n\\boxed{{{3 * a}}}",
        }
        for a in range(num_rows)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("tokenizer")
    rows = write_rows(place / "rows.jsonl")
    make_tokenizer(MakeTokenizerConfig(inputs=(str(rows),), output=place / "out", vocab_size=312))
    return place / "out"


def test_vocabulary_has_the_asked_size_with_added_tokens_last(folder: Path) -> None:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert tokenizer.get_vocab_size() == 312
    last = [tokenizer.id_to_token(token_id) for token_id in range(307, 312)]
    assert last == ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"]


def test_each_digit_is_a_token_and_frequent_words_are_one(folder: Path) -> None:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert tokenizer.encode("407").tokens == ["4", "0", "7"]
    assert tokenizer.encode(" carry").tokens == ["Ġcarry"]
    assert not any(any(c.isdigit() for c in token) and len(token) > 1 for token in tokenizer.get_vocab())


def test_decoding_gives_the_text_back(folder: Path) -> None:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    for text in TEXTS:
        decoded = tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False)
        assert decoded == text.replace("e\u0301", "\u00e9")  # NFC composes e and its accent


def test_transformers_reads_the_folder(folder: Path) -> None:
    transformers = pytest.importorskip("transformers")
    reference = Tokenizer.from_file(str(folder / "tokenizer.json"))
    loaded = transformers.AutoTokenizer.from_pretrained(folder)
    assert (loaded.eos_token, loaded.pad_token, loaded.bos_token) == ("<|im_end|>", "<|endoftext|>", None)
    for text in TEXTS:
        assert loaded(text, add_special_tokens=False)["input_ids"] == reference.encode(text).ids
    kept = loaded.decode(loaded("<think>a</think><|im_end|>")["input_ids"], skip_special_tokens=True)
    assert kept == "<think>a</think>"
    rendered = loaded.apply_chat_template(MESSAGES, tokenize=False, add_generation_prompt=True)
    assert rendered == f"<|im_start|>user\n{MESSAGES[0]['content']}<|im_end|>\n<|im_start|>assistant\n"


def test_native_tokenizer_reads_the_folder(folder: Path) -> None:
    from megatron_sft.data.chat import ChatTokenizer

    reference = Tokenizer.from_file(str(folder / "tokenizer.json"))
    native = ChatTokenizer(str(folder))
    assert (native.eos_token, native.eos_id, native.vocab_size) == ("<|im_end|>", 309, 312)
    for text in TEXTS:
        assert native.encode(text) == reference.encode(text).ids
    rendered = f"<|im_start|>user\n{MESSAGES[0]['content']}<|im_end|>\n<|im_start|>assistant\n"
    assert native.render(MESSAGES, add_generation_prompt=True) == rendered
    assert native.encode_prompt(MESSAGES) == reference.encode(rendered).ids


def test_same_rows_give_the_same_bytes_in_another_process(tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", num_rows=200)
    digests = []
    for number in (1, 2):
        command = [sys.executable, "-m", "megatron_sft.data.make_tokenizer", str(rows), "--vocab-size", "300"]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": str(number)}
        output = tmp_path / str(number)
        subprocess.run([*command, "--output", str(output)], check=True, capture_output=True, env=environment)
        contents = [path.name.encode() + path.read_bytes() for path in sorted(output.iterdir())]
        assert len(contents) == 3
        digests.append(hashlib.sha256(b"".join(contents)).hexdigest())
    assert digests[0] == digests[1]


def test_prompt_rows_are_read_as_well(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "hoho hoho hoho", "response": "haha haha"}\n', encoding="utf-8")
    make_tokenizer(MakeTokenizerConfig(inputs=(str(rows),), output=tmp_path / "out", vocab_size=270))
    assert "Ġhoho" in Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json")).get_vocab()


@pytest.mark.parametrize(
    "line",
    [
        '{"message": [{"role": "user", "content": "x"}]}',
        '{"response": "x"}',
        '{"message": "x", "response": "y"}',
        '{"message": ["x"], "response": "y"}',
        '{"prompt": 3, "response": "y"}',
    ],
)
def test_row_without_texts_is_named(tmp_path: Path, line: str) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "a", "response": "b"}\n' + line + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"rows\.jsonl, row 2: expected 'message'"):
        make_tokenizer(MakeTokenizerConfig(inputs=(str(rows),), output=tmp_path / "out", vocab_size=300))


def test_missing_and_empty_files_are_errors(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").touch()
    for name, message in [("absent.jsonl", "matches no file"), ("empty.jsonl", "no rows")]:
        with pytest.raises(UserError, match=message):
            make_tokenizer(MakeTokenizerConfig(inputs=(str(tmp_path / name),), output=tmp_path / "out", vocab_size=300))


def test_patterns_stand_for_their_files_by_name(tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / f"{name}.train.jsonl").write_text(json.dumps({"prompt": name, "response": name * 9}) + "\n")
    folders = {}
    for label, inputs in (("pattern", ("*.train.jsonl",)), ("names", ("a.train.jsonl", "b.train.jsonl"))):
        folders[label] = tmp_path / label
        paths = tuple(str(tmp_path / name) for name in inputs)
        make_tokenizer(MakeTokenizerConfig(inputs=paths, output=folders[label], vocab_size=270))
    first, second = (folder / "tokenizer.json" for folder in folders.values())
    assert first.read_bytes() == second.read_bytes()


def test_too_small_vocabulary_names_the_least(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at least 261"):
        MakeTokenizerConfig(inputs=("rows.jsonl",), output=tmp_path / "out", vocab_size=260)


def test_command_line_reports_errors_without_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    absent = str(tmp_path / "absent.jsonl")
    monkeypatch.setattr(
        "sys.argv", ["make_tokenizer", absent, "--vocab-size", "300", "--output", str(tmp_path / "out")]
    )
    assert main() == 2
    assert f"make_tokenizer: error: INPUT '{absent}' matches no file" in capsys.readouterr().err
