"""The data layer, written in Rust (`rust/core`, bound by `rust/python`). All functions release the GIL."""

from collections.abc import Callable
from os import PathLike
from typing import final

from megatron_sft.errors import DataError as NativeError

__all__ = [
    "ChatTokenizer",
    "NativeError",
    "answer_text",
    "build_shards",
    "last_boxed",
    "verify_countdown",
    "verify_math",
]

@final
class ChatTokenizer:
    """Tokenizer, chat template and stop token of one Hugging Face tokenizer folder. Immutable; threads may share it.

    Reads `tokenizer.json` (or `tokenizer.json.gz`), `tokenizer_config.json`, the template (`chat_template.jinja`, else
    the key `chat_template`) and, where there is one, `generation_config.json`.

    Raises:
        NativeError: when a part is missing or two parts contradict each other; the message names file and remedy.
    """

    def __new__(cls, folder: str | PathLike[str]) -> ChatTokenizer: ...
    def render(self, messages: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Text of the conversation, as Hugging Face's `apply_chat_template(messages, tokenize=False)` gives it."""

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`; nothing is added, and the text of a special token becomes its id."""

    def encode_prompt(self, messages: list[dict[str, str]]) -> list[int]:
        """`encode(render(messages, True))`: what a model is given before it answers."""

    def decode(self, ids: list[int]) -> str:
        """Text of `ids`, special tokens included."""

    @property
    def eos_id(self) -> int:
        """Id of the token that ends a response."""

    @property
    def eos_token(self) -> str:
        """Text of the token that ends a response."""

    @property
    def stop_ids(self) -> list[int]:
        """`eos_id` first, then the further eos ids of `generation_config.json`."""

    @property
    def vocab_size(self) -> int:
        """One more than the largest id, added tokens included."""

    @property
    def fingerprint(self) -> str:
        """sha256 in hex over `tokenizer.json`, the template and the special tokens."""

    @property
    def template_source(self) -> str:
        """File of the folder that held the template."""

def last_boxed(text: str) -> str | None:
    r"""Content of the last brace-balanced `\boxed{...}`, or None."""

def answer_text(response: str) -> str:
    """What follows the last `</think>`; the whole text when there is none."""

def verify_countdown(response: str, numbers: list[int], target: int) -> tuple[bool, str]:
    r"""Whether the last box after the trace uses each number exactly once and equals `target`, in exact rationals.

    Returns `(True, "")`, or False with `no_boxed_answer` or `wrong_answer: <why>`.
    """

def verify_math(response: str, answer: str) -> tuple[bool, str]:
    """Whether the last box after the trace equals `answer` after light normalisation.

    Returns `(True, "")`, or False with `no_boxed_answer` or `wrong_answer: <why>`.
    """

def build_shards(config_json: str, progress: Callable[[str], None] | None = None) -> str:
    """Build a shard folder; `config_json` holds the keys of `BuildConfig` in `rust/core/src/config.rs`.

    `progress` is called about ten times a second with a status as JSON (`Status` in `rust/core/src/build/sink.rs`). What
    it raises stops the build. Returns the manifest as JSON: of the new shards, or of equal ones that were there already;
    with `run.part`, what was processed.

    Raises:
        NativeError: for a bad option, tokenizer, input or output; the folder then holds no manifest.
    """

def preview_shards(config_json: str) -> str:
    """Process rows until one is kept, writing nothing.

    Returns JSON: `rows` looked at, `fingerprint`, `input_bytes`, and `sample`, a list of sequences with `trained`,
    `tokens` and `text`, or null.

    Raises:
        NativeError: as `build_shards`.
    """
