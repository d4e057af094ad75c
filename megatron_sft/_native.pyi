"""The data layer, written in Rust (`rust/core`, bound by `rust/python`). All functions release the GIL."""

from collections.abc import Callable
from os import PathLike
from typing import Literal, final

import numpy as np
from numpy.typing import NDArray

from megatron_sft.errors import DataError as NativeError

__all__ = [
    "ChatTokenizer",
    "MathVerifier",
    "NativeError",
    "ShardSet",
    "answer_text",
    "build_shards",
    "decide_math",
    "last_boxed",
    "pack_rows",
    "plan_rows",
    "preview_shards",
    "show_sample",
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

def build_shards(config_json: str, tokenizer: ChatTokenizer, progress: Callable[[str], None] | None = None) -> str:
    """Build a shard folder; `config_json` holds the keys of `BuildConfig` in `rust/core/src/config.rs`.

    `progress` is called about ten times a second with a status as JSON (`Status` in `rust/core/src/build/sink.rs`).
    What it raises stops the build. Returns the manifest as JSON: of the new shards, or of equal ones that were there
    already; with `run.part`, what was processed.

    Raises:
        NativeError: for a bad option, tokenizer, input or output; the folder then holds no manifest.
    """

def preview_shards(config_json: str, tokenizer: ChatTokenizer) -> str:
    """Process rows until one is kept, writing nothing.

    Returns JSON: `rows` looked at, `fingerprint`, `input_bytes`, and `sample`, a list of sequences with `trained`,
    `tokens` and `text`, or null.

    Raises:
        NativeError: as `build_shards`.
    """

def show_sample(folder: str | PathLike[str], prefixes: list[str], tokenizer: ChatTokenizer, index: int) -> str:
    """Return a sample of complete shards as JSON, in the form of `sample` of `preview_shards`.

    Raises:
        NativeError: when the prefixes are no shards of the folder, or there is no such sample.
    """

@final
class ShardSet:
    """Shards of one folder, mapped into memory and checked, as one list of samples. Immutable; threads may share it.

    Raises:
        NativeError: when `PREFIX.bin` or `PREFIX.idx` of a prefix is missing or damaged; names file, place and remedy.
    """

    def __new__(cls, folder: str | PathLike[str], prefixes: list[str]) -> ShardSet: ...
    @property
    def num_samples(self) -> int:
        """Samples of all shards."""

    def counts(self) -> list[tuple[int, int, int]]:
        """Samples, tokens and trained tokens of each shard."""

    def lengths(self) -> NDArray[np.int64]:
        """int64[num_samples] tokens of each sample; a new array at each call."""

    def trained_lengths(self) -> NDArray[np.int64]:
        """int64[num_samples] trained tokens of each sample; a new array at each call."""

    def sample(self, index: int) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
        """Tokens int32[n] of a sample, and uint8[n] with 1 where they are trained.

        Raises:
            NativeError: when there is no such sample.
        """

    def fill_row(
        self, indices: NDArray[np.int64], row_length: int | None, token_weights: NDArray[np.float32]
    ) -> tuple[
        NDArray[np.int64], NDArray[np.int64], NDArray[np.float32], NDArray[np.int64], NDArray[np.int32], int, int
    ]:
        """Samples one after the other as a row of T = `row_length` places; None for their tokens alone, at least 1.

        `token_weights` float32[samples]: weight in the loss of each trained token of a sample.

        Returns tokens int64[T], labels int64[T], loss weights float32[T], position ids int64[T], document boundaries
        int32[N + 1], tokens of the longest document, and T without padding.

        Raises:
            NativeError: when a sample does not exist, the samples do not fit, or an id is negative.
        """

def pack_rows(
    lengths: NDArray[np.int32] | NDArray[np.int64], seq_length: int, seed: int | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pack a whole set of samples; `lengths` is contiguous. Returns `order` and `row_starts` of `PackedRows`.

    Raises:
        NativeError: for a length below 1 or above `seq_length`.
    """

def plan_rows(
    lengths: NDArray[np.int32] | NDArray[np.int64], seq_length: int, multiple: int, dp_size: int, linear_cost: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Pack one global batch and deal its rows: those of rank 0 come first, each rank has the same number.

    The cost of a row is the sum of `linear_cost * n + n * n` over its samples' lengths n. Returns `order`, `row_starts`
    and the tokens of the longest row, rounded up to a multiple of `multiple` or to `seq_length`.

    Raises:
        NativeError: for a length below 1 or above `seq_length`.
    """
