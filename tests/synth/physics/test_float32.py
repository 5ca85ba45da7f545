"""Exponential, logarithm and cosine of the kernel against numpy in float64."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from synth.physics.float32 import cosine_of_word, exponential, logarithm


@njit
def apply_all(  # type: ignore[no-untyped-def]
    powers, positives, words, out
):
    for n in range(powers.shape[0]):
        out[0, n], out[1, n], out[2, n] = exponential(powers[n]), logarithm(positives[n]), cosine_of_word(words[n])


def compute(
    powers: NDArray[np.float32], positives: NDArray[np.float32], words: NDArray[np.uint32]
) -> NDArray[np.float32]:
    out = np.empty((3, len(powers)), np.float32)
    apply_all(powers, positives, words, out)
    return out


def test_they_are_those_of_numpy() -> None:
    rng = np.random.default_rng(5)
    count = 200_000
    powers = rng.uniform(-87, 87, count).astype(np.float32)
    positives = np.exp(rng.uniform(-60, 60, count)).astype(np.float32)
    positives[: count // 2] = rng.uniform(0.5, 1.5, count // 2)
    words = rng.integers(0, 2**32, count, dtype=np.uint32)
    powers[:3], positives[:3], words[:3] = (-1e4, 1e4, 0), (1, 2**-32, 0.5), (0, 2**31, 2**32 - 1)
    grown, logs, cosines = compute(powers, positives, words).astype(np.float64)
    cut = np.clip(powers.astype(np.float64), -87, 87)
    assert (np.abs(grown / np.exp(cut) - 1) < 3e-7 + 1e-7 * np.abs(cut)).all()
    exact = np.log(positives.astype(np.float64))
    assert (np.abs(logs - exact) <= 3e-7 * np.abs(exact) + 1e-12).all()
    np.testing.assert_allclose(cosines, np.cos(2 * np.pi * words.astype(np.float64) / 2**32), rtol=0, atol=3e-7)
    assert (np.abs(cosines) <= 1 + 3e-7).all()
