"""The data layer, written in Rust (`rust/core`, bound by `rust/python`). All functions release the GIL."""

from collections.abc import Callable
from os import PathLike
from typing import Literal, final

from megatron_sft.errors import DataError as NativeError

__all__ = [
    "ChatTokenizer",
    "MathVerifier",
    "NativeError",
    "answer_text",
    "build_shards",
    "decide_math",
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

def decide_math(gold: str, answer: str) -> Literal["equal", "different", "unknown"]:
    r"""What is proven about a gold answer and the content of a box, without math-verify; it takes microseconds.

    `equal` and `different` are math-verify's verdicts, see `rust/core/src/verify/math/mod.rs`. An answer that is not
    proven to be either is `unknown`.
    """

@final
class MathVerifier:
    """math-verify's verdicts: proven by `decide_math`, remembered, or given by a process that runs `command`.

    `command` is a program that keeps to the protocol of `megatron_sft.data.math_verify_server`. It starts when it is
    first needed and is killed when a pair takes too long; the next pair starts it anew. Calls from several threads wait
    for each other.

    `cpu_seconds` is the processor time that a pair may take, `wall_seconds` (by default 3 * `cpu_seconds` + 5) the time
    after which it is given up in any case.
    """

    def __new__(
        cls, command: list[str], cpu_seconds: float = 10.0, wall_seconds: float | None = None
    ) -> MathVerifier: ...
    def verify(
        self, gold: str, answer: str
    ) -> tuple[Literal["equal", "different", "undecided"], Literal["fast_path", "cache", "math_verify"], str]:
        """Verdict on a gold answer and the content of a box, who gave it, and for `undecided` the cause.

        Causes are `cpu_limit`, `wall_limit`, `died` and names of Python's exceptions.

        Raises:
            NativeError: when the program is needed and does not work; the message names the remedy.
        """

    def report(self) -> str:
        """The counts of `VerifyReport` in `rust/core/src/verify/verifier.rs`, as JSON."""

    def close(self) -> None:
        """End the process; `verify` raises from then on."""

def verify_math(response: str, answer: str) -> tuple[bool, str]:
    """Whether the last box after the trace is proven to equal `answer`, as by `decide_math`.

    Returns `(True, "")`, or False with `no_boxed_answer` or `wrong_answer: <why>`.
    """

def build_shards(config_json: str, progress: Callable[[int, int], None] | None = None) -> str:
    """Build a shard folder; `config_json` holds the keys of `BuildConfig` in `rust/core/src/config.rs`.

    `progress` is called with input bytes done and in all. What it raises stops the build.
    Returns the manifest as JSON: of the new shards, or of equal ones that were there already.

    Raises:
        NativeError: for a bad option, tokenizer, input or output; the folder then holds no manifest.
    """
