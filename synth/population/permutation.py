"""A keyed shuffle of 0 .. total-1 of which any slice can be computed without the rest, at constant memory.

A Feistel network (Luby & Rackoff 1988, SIAM J Comput 17:373) permutes the numbers of some bits; a number that lands
outside is sent through again until it lands inside, which keeps it a permutation (cycle walking: Black & Rogaway 2002,
"Ciphers with arbitrary finite domains"). It is meant to scatter subjects, not to keep secrets.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from synth.errors import PopulationError

ROUNDS = 8
MAX_TOTAL = 1 << 62
_MIX_1, _MIX_2, _STEP = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 0x9E3779B97F4A7C15  # splitmix64


def permute_index(index: NDArray[np.int64], total: int, key: int) -> NDArray[np.int64]:
    """Return where the keyed permutation of 0 .. ``total - 1`` sends each entry of ``index`` (1-D).

    ``key`` is a 128-bit key of synth.seeds.stream_key. Raises PopulationError for an index outside.
    """
    if not 1 <= total <= MAX_TOTAL:
        raise PopulationError(f"a permutation of {total} subjects is asked for; it may have 1 to 2**62.")
    index = np.ascontiguousarray(index, dtype=np.int64)
    if len(index) and not 0 <= int(index.min()) <= int(index.max()) < total:
        raise PopulationError(
            f"subjects {index.min()} to {index.max()} are asked of a cohort of {total}; stay within it."
        )
    bits = max(10, (total - 1).bit_length())  # ten at least: shuffles of a few would not be even
    permuted = np.empty_like(index)
    _walk(index, np.uint64(total), np.uint64(bits // 2), np.uint64(bits - bits // 2), _expand_key(key), permuted)
    return permuted


def _expand_key(key: int) -> NDArray[np.uint64]:
    """Return one 64-bit key a round: splitmix64 (Steele, Lea & Flood 2014) started by each half of ``key`` in turn."""
    mask, words = (1 << 64) - 1, []
    state = [key & mask, (key >> 64) & mask]
    for number in range(ROUNDS):
        half = number % 2
        state[half] = (state[half] + _STEP) & mask
        word = state[half]
        word = ((word ^ (word >> 30)) * _MIX_1) & mask
        word = ((word ^ (word >> 27)) * _MIX_2) & mask
        words.append(word ^ (word >> 31))
    return np.array(words, dtype=np.uint64)


@njit(cache=True, nogil=True)
def _walk(
    index: NDArray[np.int64],
    total: np.uint64,
    high_bits: np.uint64,
    low_bits: np.uint64,
    keys: NDArray[np.uint64],
    out: NDArray[np.int64],
) -> None:
    """Fill ``out``: rounds change the high and the low half in turn by a hash of the other one."""
    one, shift, word = np.uint64(1), np.uint64(32), np.uint64(64)
    mix_1, mix_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
    low_mask, to_high, to_low = (one << low_bits) - one, word - high_bits, word - low_bits
    for i in range(len(index)):
        value = np.uint64(index[i])
        while True:
            high, low = value >> low_bits, value & low_mask
            for pair in range(0, len(keys), 2):
                mixed = (low ^ keys[pair]) * mix_1
                mixed = (mixed ^ (mixed >> shift)) * mix_2
                high ^= mixed >> to_high
                mixed = (high ^ keys[pair + 1]) * mix_1
                mixed = (mixed ^ (mixed >> shift)) * mix_2
                low ^= mixed >> to_low
            value = (high << low_bits) | low
            if value < total:
                break
        out[i] = np.int64(value)
