"""Blurring by an echo train: lines of k-space are filled by echoes of different strength, which differs by tissue."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from synth.physics.effects.base import CONTRAST, Effect, Volume, along, line_numbers


def fill_lines(count: int, echoes: NDArray[np.float64], effective: int) -> NDArray[np.float32]:
    """Return the weight of each of ``count`` lines: that of the echo which fills it; ``effective`` is in the centre.

    Echoes are numbered from 0. The further an echo is from the effective one, the further out are the two bands of
    lines that it fills: edges blur where these echoes are weaker, and are drawn too sharp where they are stronger.
    Source: Mulkern et al., Magn Reson Imaging 1990;8:557.
    """
    order = np.argsort(np.abs(np.arange(len(echoes)) - effective), kind="stable")
    band = np.minimum(np.abs(line_numbers(count)) * 2 * len(echoes) // (count + 1), len(echoes) - 1)
    return np.asarray(echoes[order][band], np.float32)


def blur_tissue(volume: Volume, weights: NDArray[np.float32], axis: int) -> Volume:
    """Return the volume of one tissue, its lines along ``axis`` weighted; the centre weighs 1, so its mean stays."""
    k = fft.fft(volume, axis=axis) * along(weights, axis)
    return np.asarray(fft.ifft(k, axis=axis).real, np.float32)


BLURRING = Effect(
    "echo-train blurring: each tissue's lines have the strength of the echo that fills them",
    {},
    CONTRAST,
    shared=True,
)
