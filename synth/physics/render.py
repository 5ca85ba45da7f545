"""Rendering the contrasts and labels of one visit by the fused kernel (synth.physics.slab)."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synth.physics.grid import NODE_SPACING_MM, Grid
from synth.physics.individual import Person
from synth.physics.lesions import Lesions
from synth.physics.overlay import Overlay, pack_overlays
from synth.physics.slab import philox_words, render_slab

__all__ = ["Rendering", "list_tissues", "philox_words", "render_volumes"]

# Of a voxel, from its middle to its samples along each axis: closer than for its mean (0.25, as above 1 mm), since
# images pass frequencies up to their limit undamped.
_FINE_SHARE = 0.15


@dataclass(frozen=True, slots=True)
class Rendering:
    """What one pass gives: ``images`` uint16 (contrast, x, y, z), ``tissue`` and ``lesion`` uint8 (x, y, z).

    ``log_odds`` is empty, or the mean log-odds of WM and of CSF against GM of every voxel inside the skull, float32
    (x, y, z, 2).
    """

    images: NDArray[np.uint16]
    tissue: NDArray[np.uint8]
    lesion: NDArray[np.uint8]
    log_odds: NDArray[np.float32]


def list_tissues(lesions: Lesions, overlays: Sequence[Overlay]) -> tuple[str, ...]:
    """Return the tissue of each column of ``signals``, as render_volumes takes them."""
    parts = [*lesions.parts, *(part for overlay in overlays for part in overlay.parts)]
    return ("gm", "wm", "csf", *(part.tissue for part in parts))


def _place_samples(grid: Grid, nodes: NDArray[np.float32] | NDArray[np.float64]) -> NDArray[np.float32]:
    """Return where a voxel is sampled, from its middle in template voxels, shape (samples, 3): 4 up to 1 mm, else 8."""
    corners = np.stack(np.meshgrid(*[(-1.0, 1.0)] * 3, indexing="ij"), axis=-1).reshape(8, 3)
    if grid.resolution_mm <= 1:
        corners = corners[corners.prod(axis=1) > 0] * _FINE_SHARE * 4
    corners = corners / 4
    steps = [np.diff(nodes[..., :3], axis=axis).mean(axis=(0, 1, 2)) for axis in range(3)]
    return np.asarray(corners @ np.asarray(steps) * (grid.resolution_mm / NODE_SPACING_MM), np.float32)


def render_volumes(
    grid: Grid,
    person: Person,
    nodes: NDArray[np.float32] | NDArray[np.float64],
    log_gains: tuple[float, float],
    lesions: Lesions,
    overlays: Sequence[Overlay] = (),
    *,
    moved: bool = False,
    signals: NDArray[np.float32] | None = None,
    sigma: NDArray[np.float32] | None = None,
    scale: NDArray[np.float32] | None = None,
    keys: NDArray[np.uint32] | None = None,
    step: int = 1,
    with_log_odds: bool = False,
    only_parts: bool = False,
    threads: int = 1,
) -> Rendering:
    """Render all contrasts of one visit, or only its labels if no ``signals`` are given.

    ``nodes`` (nx, ny, nz, 3 + contrasts) holds the template voxel coordinate and each contrast's bias at the nodes of
    ``grid``, and if ``moved``, four more channels: from where a voxel lies to where its tissue is taken from, in
    template voxels, and log-odds of fluid that are added there (lesions and overlays stay where they are).
    ``signals`` (contrasts, 3 + parts) is the signal of GM, WM, CSF, then of each part that lesions and overlays have
    (see list_tissues); ``sigma`` the noise standard deviation per channel in the same unit; ``scale`` the stored value
    per unit of signal; ``keys`` (contrasts, 2) the noise keys.
    ``log_gains`` are added to the log-odds of white matter and of fluid (not of ventricles) against grey matter.
    With ``only_parts`` voxels that no lesion or overlay can cover stay empty: quick, if only their mask is wanted.
    ``step`` > 1 renders one in ``step`` voxels along each axis. The result does not depend on ``threads``.
    """
    contrasts = 0 if signals is None else len(signals)
    shape = tuple(n // step for n in grid.shape)
    images = np.empty((contrasts, *shape), np.uint16)
    tissue, lesion = np.empty(shape, np.uint8), np.empty(shape, np.uint8)
    log_odds = np.zeros((*shape, 2) if with_log_odds else (0, 0, 0, 0), np.float32)
    packed = pack_overlays(lesions.parts, overlays)
    empty = np.zeros((0, 3 + len(packed.rules)), np.float32)
    edges = np.linspace(0, shape[0], threads + 1).astype(int)
    arguments = (
        step,
        grid.resolution_mm / NODE_SPACING_MM,
        np.ascontiguousarray(nodes, np.float32),
        person.odds,
        person.occupied,
        np.asarray(log_gains, np.float32),
        _place_samples(grid, nodes),
        lesions.table,
        lesions.cell_start,
        lesions.cell_items,
        lesions.cell_shape,
        np.float32(max(1.0, grid.resolution_mm)),
        packed.filled,
        packed.raster,
        packed.boxes,
        packed.rules,
        len(lesions.parts),
        moved,
        only_parts,
        empty if signals is None else signals,
        np.zeros(0, np.float32) if sigma is None else sigma,
        np.zeros(0, np.float32) if scale is None else scale,
        np.zeros((0, 2), np.uint32) if keys is None else keys,
        images,
        tissue,
        lesion,
        log_odds,
    )
    if threads == 1:
        render_slab(0, shape[0], *arguments)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda n: render_slab(edges[n], edges[n + 1], *arguments), range(threads)))
    return Rendering(images, tissue, lesion, log_odds)
