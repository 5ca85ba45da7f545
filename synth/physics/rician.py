"""Rician noise along a row of voxels: |signal + complex Gaussian|, by Box-Muller in polar form.

Noise is Philox4x32-10 counted by voxel, two voxels a block, so a voxel's noise does not depend on what is rendered with
it. Source of the law: Gudbjartsson and Patz, MRM 1995;34:910.
"""

from __future__ import annotations

import math

from numba import float32, njit, uint16

from synth.philox import philox_block
from synth.physics.float32 import cosine_of_word, logarithm


@njit(inline="always")
def draw_words(first_block, blocks, k0, k1, words):  # type: ignore[no-untyped-def]
    """Write the words of ``blocks`` Philox blocks into ``words`` (blocks, 4): a radius and an angle of two voxels."""
    for pair in range(blocks):
        words[4 * pair], words[4 * pair + 1], words[4 * pair + 2], words[4 * pair + 3] = philox_block(
            first_block + pair, 0, 0, 0, k0, k1
        )


@njit(inline="always")
def store_row(signal, words, noise, gain, out):  # type: ignore[no-untyped-def]
    """Write ``signal`` with noise of standard deviation ``noise`` into ``out`` (uint16), ``gain`` times as large."""
    for k in range(out.shape[0]):
        # the mean of a uniform is lifted off 0
        uniform = (float32(words[2 * k]) + float32(0.5)) * float32(2**-32)
        here = max(signal[k], float32(0.0))
        value = noise * math.sqrt(max(float32(-2.0) * logarithm(uniform), float32(0.0)))
        cross = float32(2.0) * here * value * cosine_of_word(words[2 * k + 1])
        power = max(here * here + cross + value * value, float32(0.0))
        out[k] = uint16(min(math.sqrt(power) * gain + float32(0.5), float32(65535.0)))
