"""Features without a network: the pixels themselves, coarse, along the directions in which real images differ."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synth.evaluation.images.features.fitting import (
    TooFewImagesError,
    average_grid,
    check_enough,
    hash_parts,
    sample_blocks,
)
from synth.evaluation.images.layout import Floats32
from synth.evaluation.images.sets import RealImages

GRIDS = {2: (16, 16), 3: (8, 8, 8)}
COMPONENTS = 64
LEAST_IMAGES = 3
_FLOOR = 1e-9  # a variance below this share of the largest is rounding


@dataclass(frozen=True)
class PixelFeatures:
    """Principal components of coarse pixels (Pearson 1901), fitted to training images.

    They are not whitened: whitening would count the last component, mostly noise, as much as the size of the body.
    One common scale makes a squared feature 1 on average over training images. ``components`` is (d, pixels).
    """

    grid: tuple[int, ...]
    mean: NDArray[np.float64]
    components: NDArray[np.float64]
    name: str = "pixels"

    @property
    def dimensions(self) -> int:
        """Length of a feature vector."""
        return len(self.components)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the grid, mean and components."""
        return hash_parts("pixels-1", {"grid": np.array(self.grid), "mean": self.mean, "components": self.components})

    def extract(self, images: Floats32) -> Floats32:
        """Return (n, dimensions) components of (n, *grid) images."""
        return np.asarray((_flatten(images, self.grid) - self.mean) @ self.components.T, np.float32)


def fit_pixels(real: RealImages, components: int = COMPONENTS) -> PixelFeatures:
    """Return coarse pixel features fitted to the training images; raises TooFewImagesError below 3 different ones."""
    check_enough(real.train, LEAST_IMAGES, "pixel features")
    grid = GRIDS[len(real.train.shape)]
    flat = np.concatenate([_flatten(block, grid) for block in sample_blocks(real.train)])
    mean = flat.mean(axis=0)
    variances, directions = np.linalg.eigh((flat - mean).T @ (flat - mean) / len(flat))
    variances, directions = variances[::-1][:components], directions[:, ::-1][:, :components].T
    kept = (variances > _FLOOR * max(variances[0], _FLOOR)) & (np.arange(len(variances)) < len(flat) - 1)
    if not kept.any():
        raise TooFewImagesError(
            f"pixel features need training images that differ; at {' x '.join(map(str, grid))} all are equal. "
            "Check that the reference holds different images."
        )
    variances, directions = variances[kept], directions[kept]
    largest = directions[np.arange(len(directions)), np.abs(directions).argmax(axis=1)]
    directions = directions * np.sign(largest)[:, None]  # eigenvectors have no sign of their own
    return PixelFeatures(grid, mean, directions / np.sqrt(variances.mean()))


def _flatten(images: Floats32, grid: tuple[int, ...]) -> NDArray[np.float64]:
    return average_grid(images, grid).reshape(len(images), -1).astype(np.float64)
