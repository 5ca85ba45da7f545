"""Label maps for tests, made of the engine's own labels: the anatomy of a sampled person, in a place that is known."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from synth.physics.grid import Grid, node_positions_mm
from synth.physics.individual import sample_person
from synth.physics.lesions import no_lesions
from synth.physics.render import render_volumes
from synth.physics.template import load_template

_CENTRE = np.array([0.0, -17.0, 4.0])


def place_template() -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
    """Return how the maps of render_labels lie: angles in degrees, middle in mm, size over the template's."""
    return (4.0, -3.0, 2.0), (1.0, 2.0, -1.0), (0.92, 0.88, 0.9)


def render_labels(resolution_mm: float) -> NDArray[np.uint8]:
    """Return the tissue map of somebody who lies as place_template says, on the grid of that resolution."""
    grid, (angles, shift, size) = Grid(resolution_mm), place_template()
    turn = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    nodes = (node_positions_mm(grid) - shift) @ turn / np.asarray(size) + _CENTRE - load_template().origin_mm
    return render_volumes(grid, sample_person(99), nodes, (0.0, 0.0), no_lesions()).tissue


def block_labels(
    labels: NDArray[np.uint8], affine: NDArray[np.float64], factors: tuple[int, int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Return ``labels`` in larger voxels, each with the label that most of it has, and their affine."""
    shape = [n // f for n, f in zip(labels.shape, factors, strict=True)]
    cut = labels[tuple(slice(0, n * f) for n, f in zip(shape, factors, strict=True))]
    blocks = cut.reshape([value for pair in zip(shape, factors, strict=True) for value in pair])
    shares = np.stack([(blocks == value).mean(axis=(1, 3, 5)) for value in range(5)])
    coarse = affine.copy()
    coarse[:3, :3] = affine[:3, :3] * factors
    coarse[:3, 3] += affine[:3, :3] @ (np.asarray(factors) - 1) / 2
    return shares.argmax(axis=0).astype(np.uint8), coarse


def save_map(path: Path, labels: NDArray[np.generic], affine: NDArray[np.float64]) -> Path:
    """Write a label map and return its path."""
    kept = labels.astype(np.float32 if labels.dtype.kind == "f" else np.int16)
    nib.save(nib.Nifti1Image(kept, affine), path)
    return path
