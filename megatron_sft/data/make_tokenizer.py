"""Trains a byte-level BPE tokenizer with Qwen's conventions on the texts of JSON Lines rows.

The folder that it writes is what every other part takes as `--tokenizer`: tokenizer.json, tokenizer_config.json and
chat_template.jinja. Digits are tokens of their own, so that numbers are written the same wherever they stand.
The same rows and options give the same bytes.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from megatron_sft import cli
from megatron_sft.data.build_shards import expand_inputs
from megatron_sft.errors import ConfigError, DataError
from megatron_sft.files import write_text
from megatron_sft.metrics import read_jsonl

END_OF_TEXT, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
SPECIAL_TOKENS = (END_OF_TEXT, TURN_START, TURN_END)
# Added tokens, but not "special": decoding with skip_special_tokens must keep them, as they bound the trace.
THINK_TOKENS = ("<think>", "</think>")
BYTE_ALPHABET_SIZE = 256
SMALLEST_VOCABULARY = BYTE_ALPHABET_SIZE + len(SPECIAL_TOKENS) + len(THINK_TOKENS)

# Alternatives, in order: English contractions; a word with at most one leading symbol or space; ONE digit; symbols with
# an optional leading space and the line ends after them; line ends; trailing space; other space.
WORD_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
    r"|[^\r\n\p{L}\p{N}]?\p{L}+"
    r"|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+"
    r"|\s+(?!\S)"
    r"|\s+"
)

CHAT_TEMPLATE = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)


@dataclass(frozen=True, kw_only=True)
class MakeTokenizerConfig:
    """Train a byte-level BPE tokenizer on the texts of JSON Lines rows."""

    inputs: tyro.conf.Positional[tuple[str, ...]]
    """JSON Lines files, or quoted patterns, whose rows have `message` or `prompt`, and `response`."""
    output: Path
    """Folder to write: tokenizer.json, tokenizer_config.json, chat_template.jinja."""
    vocab_size: int
    """Size of the vocabulary in tokens, the 256 bytes and 5 added tokens included."""
    model_max_length: int = 32768
    """Context length in tokens that the tokenizer's configuration states."""

    def __post_init__(self) -> None:
        """Refuse what cannot be trained."""
        if not self.inputs:
            raise ConfigError("no input: name at least one JSON Lines file")
        if self.vocab_size < SMALLEST_VOCABULARY:
            raise ConfigError(
                f"--vocab-size {self.vocab_size} is too small: the 256 bytes and the added tokens "
                f"need at least {SMALLEST_VOCABULARY}"
            )


def make_tokenizer(config: MakeTokenizerConfig) -> None:
    """Train and write the tokenizer; say how large it became."""
    tokenizer = train_tokenizer(row_texts(tuple(map(Path, expand_inputs(config.inputs)))), config.vocab_size)
    size = tokenizer.get_vocab_size()
    if size < config.vocab_size:
        print(
            f"make_tokenizer: the rows give no more than {size} tokens; {config.vocab_size} were asked for", flush=True
        )
    write_folder(tokenizer, config.output, config.model_max_length)
    print(f"make_tokenizer: wrote {config.output}: {size} tokens, stop token {TURN_END}", flush=True)


def row_texts(paths: tuple[Path, ...]) -> Iterator[str]:
    """Yield every text of every row: roles and contents of its messages (or its prompt), then its response.

    Raises:
        DataError: for a missing file or a row without these fields, naming file and row.
    """
    num_rows = 0
    for path in paths:
        if not path.is_file():
            raise DataError(f"{path}: no such file: name JSON Lines files")
        for number, row in enumerate(read_jsonl(path), start=1):
            num_rows += 1
            yield from texts_of_row(row, where=f"{path}, row {number}")
    if num_rows == 0:
        raise DataError(f"{', '.join(map(str, paths))}: no rows to train on")


def texts_of_row(row: dict[str, Any], *, where: str) -> Iterator[str]:
    """Yield the texts of one row; `where` begins the message of an error."""
    messages = row.get("message", [{"role": "user", "content": row.get("prompt")}])
    well_formed = isinstance(messages, list) and all(isinstance(message, dict) for message in messages)
    texts = [message.get(key) for message in messages for key in ("role", "content")] if well_formed else [None]
    # The template adds the last role itself; with the others it makes the rendered turns cheap, too.
    for text in [*texts, "assistant", row.get("response")]:
        if not isinstance(text, str):
            shown = json.dumps(row, ensure_ascii=False)[:120]
            raise DataError(f"{where}: expected 'message' (or 'prompt') and 'response' with texts, found {shown}")
        yield text


def train_tokenizer(texts: Iterator[str], vocab_size: int) -> Tokenizer:
    """Learn the merges; the added tokens get the last ids, as in Qwen's own vocabulary."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORD_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(SPECIAL_TOKENS) - len(THINK_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=sys.stderr.isatty(),
    )
    # The tags are added tokens later: as plain text here they would only waste merges on their letters.
    tokenizer.train_from_iterator((without_tags(text) for text in texts), trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in THINK_TOKENS])
    return tokenizer


def without_tags(text: str) -> str:
    """The text without think tags."""
    for token in THINK_TOKENS:
        text = text.replace(token, "")
    return text


def write_folder(tokenizer: Tokenizer, folder: Path, model_max_length: int) -> None:
    """Write the three files, each whole; tokenizer_config.json comes last and so marks a complete folder."""
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "tokenizer.json", tokenizer.to_str(pretty=True) + "\n")
    write_text(folder / "chat_template.jinja", CHAT_TEMPLATE)
    config = {
        "added_tokens_decoder": {
            str(tokenizer.token_to_id(token)): added_token_entry(token) for token in (*SPECIAL_TOKENS, *THINK_TOKENS)
        },
        "bos_token": None,
        "clean_up_tokenization_spaces": False,
        "eos_token": TURN_END,
        "model_max_length": model_max_length,
        "pad_token": END_OF_TEXT,
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": None,
    }
    write_text(folder / "tokenizer_config.json", json.dumps(config, indent=2) + "\n")


def added_token_entry(token: str) -> dict[str, Any]:
    """An entry of `added_tokens_decoder`, which must agree with tokenizer.json."""
    flags = dict.fromkeys(("lstrip", "normalized", "rstrip", "single_word"), False)
    return {"content": token, **flags, "special": token in SPECIAL_TOKENS}


def main() -> int:
    """Entry point of tools/make_tokenizer."""
    return cli.run(MakeTokenizerConfig, make_tokenizer, prog="make_tokenizer")


if __name__ == "__main__":
    sys.exit(main())
