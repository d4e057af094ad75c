"""Does a response go round in circles at its end? The data layer's rule for a loop, looked for where it was cut off.

A loop is a stretch that repeats exactly with some period, at least four times over, and is at least 128 tokens long,
all turns together; the last turn may be incomplete. Here it must reach the response's end: a model that leaves a loop
by itself is not stuck. (docs/data-layer.md says why so long: quotations and derivations made three times are none.)

Runs of one character are loops that tokens hide, as a tokenizer may have one token for sixteen line ends. So a response
also ends in a loop when its last 512 characters repeat at least four times over. Where a server tells no token ids, the
rule on tokens is applied to characters, with 512 in place of 128.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

MIN_TURNS = 4
MIN_TOKENS = 128
MIN_CHARACTERS = 512
WINDOW = 1 << 18
"""Tokens or characters at the end that are looked at; a turn can be up to a quarter of them."""
# Odd, so that powers of the base never vanish modulo 2^64; the digits have no meaning.
_BASE, _MIX = np.uint64(0x9E37_79B9_7F4A_7C15), np.uint64(0xD6E8_FEB8_6659_FD93)


def ends_in_loop(token_ids: Sequence[int], text: str, finish_reason: str) -> bool:
    """Say whether a response ends in a loop; `token_ids` may be empty, then its `text` decides alone.

    The last of `token_ids` is the stop token, and no part of the loop, unless the response was cut off.
    """
    if len(token_ids):
        end = len(token_ids) if finish_reason == "length" else len(token_ids) - 1
        tail = np.array(token_ids[max(0, end - WINDOW) : end], dtype=np.uint64)
        return loop_period(tail, MIN_TOKENS) is not None or _characters_loop(text[-MIN_CHARACTERS:])
    return _characters_loop(text[-WINDOW:])


def loop_period(symbols: npt.ArrayLike, min_length: int) -> int | None:
    """Return the shortest period of a loop of at least `min_length` at the end of `symbols` [length], or None.

    Read from its end, a text with the period p over L symbols begins with L - p symbols that stand again p further
    on. All periods are compared at once by polynomial hashes modulo 2^64 of all beginnings:

        hash of symbols[p : p + n] times base^-p  =  (H[p + n] - H[p]) * base^-p,    with H[k] = sum_j<k s_j base^j

    What they propose is compared symbol by symbol, so no collision can make a loop. Linear time and memory.
    """
    reverse = np.asarray(symbols, dtype=np.uint64)[::-1]
    length = len(reverse)
    if length < min_length:
        return None
    powers = np.empty(length, dtype=np.uint64)
    powers[0] = 1
    powers[1:] = _BASE
    np.multiply.accumulate(powers, out=powers)
    mixed = (reverse + np.uint64(1)) * _MIX
    mixed ^= mixed >> np.uint64(29)
    hashes = np.zeros(length + 1, dtype=np.uint64)
    np.cumsum(mixed * powers, out=hashes[1:])
    periods = np.arange(1, length // MIN_TURNS + 1)
    num_equal = np.maximum(min_length - periods, (MIN_TURNS - 1) * periods)
    shifted = hashes[periods + num_equal] - hashes[periods]
    proposed = periods[shifted == hashes[num_equal] * powers[periods]]
    for period in proposed:
        count = max(min_length - period, (MIN_TURNS - 1) * period)
        if np.array_equal(reverse[period : period + count], reverse[:count]):
            return int(period)
    return None


def _characters_loop(text: str) -> bool:
    characters = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    return loop_period(characters, MIN_CHARACTERS) is not None
