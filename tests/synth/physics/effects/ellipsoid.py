"""An ellipsoid, its k-space and its scene: what tests of effects look at."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from synth.physics.effects.base import Encoding
from synth.physics.effects.chain import Scene

SHAPE = (24, 32, 20)
THREE = Encoding()
STILL = (0.0, 0.0, 0.0)


def phantom() -> NDArray[np.float32]:
    """An ellipsoid with two inclusions, and air around it."""
    grid = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    radius = np.sqrt(sum((axis / r) ** 2 for axis, r in zip(grid, (0.7, 0.8, 0.75), strict=True)))
    inside = (radius < 1).astype(np.float32)
    inside[8:12, 12:18, 8:12] = 0.4
    inside[15:18, 14:20, 6:9] = 1.6
    return inside


def transform(volume: NDArray[Any]) -> NDArray[np.complex64]:
    return np.asarray(fft.fftn(volume, norm="ortho"), np.complex64)


def image(k: NDArray[Any]) -> NDArray[np.complex64]:
    return np.asarray(fft.ifftn(k, norm="ortho"), np.complex64)


def scene(sigma: float = 0.0, series: str = "T1w") -> Scene:
    affine = np.diag([8.0, 8.0, 8.0, 1.0])
    affine[:3, 3] = -(np.asarray(SHAPE) - 1) * 4.0
    return Scene(affine, series, 3.0, [], sigma, 77)
