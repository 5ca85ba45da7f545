"""The image grid, the B-spline nodes above it, and the values of the masks."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NODE_SPACING_MM = 8
FIELD_OF_VIEW_MM = (168, 208, 176)
LABELS = {"background": 0, "csf": 1, "grey_matter": 2, "white_matter": 3, "ventricles": 4}
# Of heads, besides. Membranes: dura and the wall of the eye; fluid: of the eye and the spine; nerves: with the spinal
# cord. Airways are background.
HEAD_LABELS = {
    "membranes": 5,
    "bone": 6,
    "marrow": 7,
    "fat": 8,
    "muscle": 9,
    "skin": 10,
    "fluid": 11,
    "nerves": 12,
}
LESIONS = {"lesion": 1, "oedema": 2, "enhancing": 3, "core": 4}  # values of the lesion mask; core: necrosis, cavity


@dataclass(frozen=True, slots=True)
class Grid:
    """The image grid: isotropic voxels of ``resolution_mm`` over FIELD_OF_VIEW_MM, centred on the head."""

    resolution_mm: float

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels along x, y and z."""
        x, y, z = (int(length / self.resolution_mm) for length in FIELD_OF_VIEW_MM)
        return x, y, z

    @property
    def affine(self) -> NDArray[np.float64]:
        """Voxel indices to millimetres (RAS+), origin in the middle of the field of view."""
        affine = np.diag([self.resolution_mm] * 3 + [1.0])
        affine[:3, 3] = -(np.asarray(self.shape) - 1) / 2 * self.resolution_mm
        return affine


def node_positions_mm(grid: Grid) -> NDArray[np.float64]:
    """Return where the B-spline nodes of ``grid`` lie in image millimetres, shape (nx, ny, nz, 3)."""
    axes = [
        start + NODE_SPACING_MM * (np.arange(math.ceil(n * grid.resolution_mm / NODE_SPACING_MM) + 3) - 1)
        for start, n in zip(grid.affine[:3, 3], grid.shape, strict=True)
    ]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
