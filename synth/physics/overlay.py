"""Parts that a head has besides grey matter, white matter and fluid: diseases, and whatever else is laid over it.

An overlay is a stack of fractions at 1 mm in the template's space, one map a part. A part takes its fraction of the
tissues that it replaces, so it never covers what it does not replace, and partial volume is kept. Overlays are applied
in order, each to what the ones before it have left.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

# What a part may replace: a sum of these.
GREY, WHITE, FLUID, VENTRICLE, OUTSIDE = 1, 2, 4, 8, 16
BRAIN, INSIDE = GREY | WHITE, GREY | WHITE | FLUID | VENTRICLE
# Start in the flat raster, first voxel (3), shape (3), number of parts, start in the blocks, all that parts replace.
BOX_COLUMNS = 10
BLOCK = 4  # voxels along each axis of a block
FULL = 255


@dataclass(frozen=True, slots=True)
class Part:
    """One part: the name of its ``tissue``, what it ``replaces``, and its values in the masks.

    ``label`` is its value in the lesion mask (0: none). ``occupies`` is its value in the tissue map where it fills most
    of a voxel (0: the map keeps the tissue that was there).
    """

    tissue: str
    replaces: int
    label: int = 1
    occupies: int = 0


@dataclass(frozen=True, slots=True)
class Overlay:
    """Fractions of some parts: uint8 (x, y, z, parts), 255 all of a voxel; those of a voxel sum to 255 at most.

    ``low`` is the template voxel (1 mm) of fractions[0, 0, 0]; it may lie outside of the template. Fractions are
    interpolated trilinearly, and 0 beyond the box.
    """

    fractions: NDArray[np.uint8]
    low: tuple[int, int, int]
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Packed:
    """Overlays as the kernel takes them: one flat raster, where each box lies in it, and the rules of all parts.

    ``boxes`` is int64 (overlays, BOX_COLUMNS); ``rules`` int64 (parts, 3): replaces, label, occupies. ``filled`` says
    of each block of each box, with the next voxel along each axis, whether it has anything.
    """

    filled: NDArray[np.bool_]
    raster: NDArray[np.uint8]
    boxes: NDArray[np.int64]
    rules: NDArray[np.int64]


@njit(cache=True, nogil=True)
def _find_filled(fractions):  # type: ignore[no-untyped-def]
    nx, ny, nz, parts = fractions.shape
    bx, by, bz = (nx - 1) // BLOCK + 1, (ny - 1) // BLOCK + 1, (nz - 1) // BLOCK + 1
    filled = np.zeros((bx, by, bz), np.bool_)
    for i in range(nx):
        for j in range(ny):
            for k in range(nz):
                some = False
                for q in range(parts):
                    some = some or fractions[i, j, k, q] > 0
                if some:
                    a, b, c = i // BLOCK, j // BLOCK, k // BLOCK
                    # the first voxel of a block is read with the last one of the block before
                    a0, b0, c0 = max(i - 1, 0) // BLOCK, max(j - 1, 0) // BLOCK, max(k - 1, 0) // BLOCK
                    filled[a, b, c] = filled[a0, b, c] = filled[a, b0, c] = filled[a, b, c0] = True
                    filled[a0, b0, c] = filled[a0, b, c0] = filled[a, b0, c0] = filled[a0, b0, c0] = True
    return filled


def pack_overlays(ellipsoids: Sequence[Part], overlays: Sequence[Overlay]) -> Packed:
    """Return ``overlays`` for the kernel, behind the parts that the ellipsoids of lesions have."""
    start, block, boxes, filled = 0, 0, [], []
    for overlay in overlays:
        replaces = functools.reduce(operator.or_, (part.replaces for part in overlay.parts), 0)
        boxes.append([start, *overlay.low, *overlay.fractions.shape, block, replaces])
        filled.append(_find_filled(np.ascontiguousarray(overlay.fractions)).reshape(-1))
        start += overlay.fractions.size
        block += filled[-1].size
    parts = [*ellipsoids, *(part for overlay in overlays for part in overlay.parts)]
    flat = [np.ascontiguousarray(overlay.fractions).reshape(-1) for overlay in overlays]
    return Packed(
        np.concatenate(filled) if filled else np.zeros(0, np.bool_),
        np.zeros(0, np.uint8) if not flat else flat[0] if len(flat) == 1 else np.concatenate(flat),
        np.asarray(boxes, np.int64).reshape(-1, BOX_COLUMNS),
        np.asarray([[part.replaces, part.label, part.occupies] for part in parts], np.int64).reshape(-1, 3),
    )


def crop_overlay(
    fractions: NDArray[np.uint8], parts: tuple[Part, ...], low: tuple[int, int, int] = (0, 0, 0)
) -> Overlay:
    """Return the overlay of ``fractions`` (x, y, z, parts), whose first voxel is ``low``, cut to where anything is.

    A margin of one empty voxel is kept, so that its border is interpolated as the rest of it.
    """
    some = fractions.max(axis=-1, initial=0) > 0
    bounds = []
    for axis in range(3):
        found = np.flatnonzero(some.any(axis=tuple({0, 1, 2} - {axis})))
        first, last = (int(found[0]), int(found[-1]) + 1) if len(found) else (0, 0)
        bounds.append(slice(max(first - 1, 0), last + 1))
    x, y, z = (int(corner + bound.start) for corner, bound in zip(low, bounds, strict=True))
    return Overlay(np.ascontiguousarray(fractions[tuple(bounds)]), (x, y, z), parts)
