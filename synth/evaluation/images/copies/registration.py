"""Registration of many pairs of small images: which affine map makes a training image most like an image.

For values t of the image in a window (mean 0 under weights w), x its places from the centre, J the derivatives of t by
the parameters of an affine map with what a change of gain and offset would do taken out, and g the training image read
at A x + b, each step is

    p = (J w J')^-1 J w (g' - t),    A, b  <-  the map after undoing p

with g' = g brought to mean and spread of t. That is Gauss-Newton on the correlation, inverse compositional: J belongs
to the image, so it is worked out once for all training images (Baker and Matthews, IJCV 2004; gain and offset projected
out: part 3, CMU-RI-TR-03-35). The best map seen is kept, so more steps never make a pair less alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from synth.evaluation.images.layout import Floats32

Maps = NDArray[np.float64]  # (..., axes, axes + 1): A and b in pixels from the centre
LEAST_OVERLAP = 0.7  # of the window that must lie within the training image
LARGEST_ZOOM = 1.8  # of area or volume, either way
LARGEST_SHIFT = 0.25  # of the grid
STILL = 0.02  # pixels by which the rim moves when a registration is done
_DAMPING = 1e-3
_FAST = {"nnan", "nsz", "contract", "reassoc"}


def register(
    images: Floats32,
    weights: Floats32,
    training: Floats32,
    chosen: NDArray[np.int64],
    start: Maps,
    steps: int,
) -> tuple[Floats32, Maps]:
    """Return the correlation of each image with each of its ``chosen`` training images, and the map that gave it.

    ``images`` and ``weights`` are (n, *grid), ``training`` (m, *grid), ``chosen`` (n, k) rows of it, and ``start``
    (n, k, axes, axes + 1) the maps to begin with.
    """
    grid = images.shape[1:]
    inside = np.nonzero(weights.max(axis=0) > 0)
    if not len(inside[0]):  # images of one value
        return np.zeros(chosen.shape, np.float32), start.copy()
    window: Any = (slice(None), *inside)
    places = np.stack([axis - (size - 1) / 2 for axis, size in zip(inside, grid, strict=True)]).astype(np.float32)
    weight, values = np.ascontiguousarray(weights[window]), images[window]
    mean = (weight * values).sum(1, keepdims=True) / np.maximum(weight.sum(1, keepdims=True), 1e-6)
    values = np.ascontiguousarray(values - mean)  # rows in one piece are faster, and compiled for once
    slopes = np.ascontiguousarray(np.stack([slope[window] for slope in _list_slopes(images)], axis=1))
    descent = _find_descent(values, slopes, weight, places)
    similarity, found = np.empty(chosen.shape, np.float32), np.empty(start.shape)
    _register(
        values, weight, descent, places, np.ascontiguousarray(training).reshape(len(training), -1), np.asarray(grid),
        np.ascontiguousarray(chosen), np.ascontiguousarray(start), steps, similarity, found,
    )  # fmt: skip
    return similarity, found


def _list_slopes(images: Floats32) -> Sequence[Floats32]:
    axes = tuple(range(1, images.ndim))
    return [np.asarray(np.gradient(images, axis=axis), np.float32) for axis in axes]


def _find_descent(values: Floats32, slopes: Floats32, weight: Floats32, places: Floats32) -> Floats32:
    """Return (J w J')^-1 J w, (n, parameters, places); parameters are A row by row with b behind each row."""
    n, axes, count = slopes.shape
    spread = np.concatenate([places, np.ones((1, count), np.float32)])
    descent = (slopes[:, :, None, :] * spread).reshape(n, -1, count)
    total = np.maximum(weight.sum(1), 1e-6)[:, None, None]
    energy = np.maximum((weight * values**2).sum(1), 1e-6)[:, None, None]
    weighted = weight[:, None, :]
    descent -= (descent * weighted).sum(2, keepdims=True) / total
    descent -= np.matmul(descent, (weight * values)[:, :, None]) / energy * values[:, None, :]
    normal = np.matmul(descent * weighted, descent.transpose(0, 2, 1)).astype(np.float64)
    size = np.arange(axes * (axes + 1))
    normal[:, size, size] = normal[:, size, size] * (1 + _DAMPING) + 1e-6
    return np.ascontiguousarray(np.matmul(np.linalg.inv(normal).astype(np.float32), descent * weighted))


@njit(cache=True, nogil=True, fastmath=_FAST)
def _register(values, weight, descent, places, training, grid, chosen, start, steps, similarity, found):  # type: ignore[no-untyped-def]
    axes, count = places.shape
    parameters = descent.shape[1]
    read, valid = np.empty(count, np.float32), np.empty(count, np.float32)
    change = np.empty(parameters)
    half = np.float64(grid.max()) / 2
    for image in range(values.shape[0]):
        t, w, whole = values[image], weight[image], np.float64(weight[image].sum())
        for candidate in range(chosen.shape[1]):
            target = training[chosen[image, candidate]]
            now = start[image, candidate].copy()
            best, kept = 0.0, now.copy()
            for step in range(steps + 1):
                if axes == 2:
                    _read_picture(target, grid[0], grid[1], now, places, read, valid)
                else:
                    _read_volume(target, grid[0], grid[1], grid[2], now, places, read, valid)
                overlap, alike, mean, gain = _correlate(t, w, read, valid)
                if overlap < LEAST_OVERLAP * whole or overlap <= 0:
                    break
                if alike > best:
                    best = alike
                    kept[:] = now
                if step == steps:
                    break
                for i in range(count):
                    read[i] = ((read[i] - mean) * gain - t[i]) * valid[i]
                for parameter in range(parameters):
                    total = np.float32(0.0)
                    row = descent[image, parameter]
                    for i in range(count):
                        total += row[i] * read[i]
                    change[parameter] = total
                if not _undo(change, now, axes, grid) or _measure_motion(change, axes, half) < STILL:
                    break
            similarity[image, candidate] = best
            found[image, candidate] = kept


@njit(inline="always", fastmath=_FAST)
def _correlate(t, w, read, valid):  # type: ignore[no-untyped-def]
    """Return the weight of the overlap, the correlation in it, and mean and gain that bring ``read`` to ``t``."""
    zero = np.float32(0.0)
    s0, s1, s2, s3, s4, s5 = zero, zero, zero, zero, zero, zero
    for i in range(t.size):
        v = w[i] * valid[i]
        s0 += v
        s1 += v * read[i]
        s2 += v * read[i] * read[i]
        s3 += v * read[i] * t[i]
        s4 += v * t[i]
        s5 += v * t[i] * t[i]
    if s0 <= zero:
        return 0.0, 0.0, zero, zero
    own = max(np.float64(s2 - s1 * s1 / s0), 1e-6)
    other = max(np.float64(s5 - s4 * s4 / s0), 1e-6)
    alike = np.float64(s3 - s1 * s4 / s0) / np.sqrt(own * other)
    return np.float64(s0), alike, s1 / s0, np.float32(np.sqrt(other / own))


@njit(inline="always")
def _measure_motion(change, axes, half):  # type: ignore[no-untyped-def]
    total = 0.0
    for i in range(change.size):
        total += abs(change[i]) * (1.0 if i % (axes + 1) == axes else half)
    return total


@njit(cache=True, nogil=True)
def _undo(change, now, axes, grid):  # type: ignore[no-untyped-def]
    """Replace ``now`` by now o (1 + change)^-1; return False if that leaves what is allowed."""
    step = np.empty((axes, 2 * axes))  # Gauss-Jordan without pivots: 1 + change is near 1
    for i in range(axes):
        for j in range(axes):
            one = 1.0 if i == j else 0.0
            step[i, j] = one + change[i * (axes + 1) + j]
            step[i, axes + j] = one
    for i in range(axes):
        if abs(step[i, i]) < 0.5 or abs(step[i, i]) > 2.0:
            return False
        step[i] /= step[i, i]
        for j in range(axes):
            if j != i:
                step[j] -= step[j, i] * step[i]
    undo = step[:, axes:]
    moved = np.empty(axes)
    for i in range(axes):
        moved[i] = 0.0
        for j in range(axes):
            moved[i] -= undo[i, j] * change[j * (axes + 1) + axes]
    linear = now[:, :axes].copy()
    for i in range(axes):
        for j in range(axes):
            total = 0.0
            for k in range(axes):
                total += linear[i, k] * undo[k, j]
            now[i, j] = total
            now[i, axes] += linear[i, j] * moved[j]
        if abs(now[i, axes]) > LARGEST_SHIFT * grid[i]:
            return False
    if axes == 2:
        size = abs(now[0, 0] * now[1, 1] - now[0, 1] * now[1, 0])
    else:
        size = abs(
            now[0, 0] * (now[1, 1] * now[2, 2] - now[1, 2] * now[2, 1])
            - now[0, 1] * (now[1, 0] * now[2, 2] - now[1, 2] * now[2, 0])
            + now[0, 2] * (now[1, 0] * now[2, 1] - now[1, 1] * now[2, 0])
        )
    return 1 / LARGEST_ZOOM <= size <= LARGEST_ZOOM


@njit(inline="always", fastmath=_FAST)
def _read_picture(image, rows, columns, m, places, read, valid):  # type: ignore[no-untyped-def]
    """Read a picture at A x + b, bilinear; ``valid`` is 0 where that lies outside."""
    high, wide = np.float32(rows - 1), np.float32(columns - 1)
    a, b, c = np.float32(m[0, 0]), np.float32(m[0, 1]), np.float32(m[0, 2] + (rows - 1) / 2)
    d, e, f = np.float32(m[1, 0]), np.float32(m[1, 1]), np.float32(m[1, 2] + (columns - 1) / 2)
    step = np.int32(columns)
    for i in range(read.size):
        y = a * places[0, i] + b * places[1, i] + c
        x = d * places[0, i] + e * places[1, i] + f
        ny = min(max(y, np.float32(0.0)), high - np.float32(1e-3))
        nx = min(max(x, np.float32(0.0)), wide - np.float32(1e-3))
        valid[i] = np.float32(1.0) if abs(ny - y) + abs(nx - x) < np.float32(0.01) else np.float32(0.0)
        iy, ix = np.int32(ny), np.int32(nx)
        fy, fx = ny - np.float32(iy), nx - np.float32(ix)
        at = iy * step + ix
        upper = np.float32(image[at]) + fx * (np.float32(image[at + 1]) - np.float32(image[at]))
        below = np.float32(image[at + step])
        lower = below + fx * (np.float32(image[at + step + 1]) - below)
        read[i] = upper + fy * (lower - upper)


@njit(inline="always", fastmath=_FAST)
def _read_volume(image, nx, ny, nz, m, places, read, valid):  # type: ignore[no-untyped-def]
    """Read a volume at A x + b, trilinear; ``valid`` is 0 where that lies outside."""
    one = np.float32(1.0)
    step, slab = np.int32(nz), np.int32(ny * nz)
    for i in range(read.size):
        px, py, pz = places[0, i], places[1, i], places[2, i]
        x = np.float32(m[0, 0] * px + m[0, 1] * py + m[0, 2] * pz + m[0, 3] + (nx - 1) / 2)
        y = np.float32(m[1, 0] * px + m[1, 1] * py + m[1, 2] * pz + m[1, 3] + (ny - 1) / 2)
        z = np.float32(m[2, 0] * px + m[2, 1] * py + m[2, 2] * pz + m[2, 3] + (nz - 1) / 2)
        cx = min(max(x, np.float32(0.0)), np.float32(nx - 1.001))
        cy = min(max(y, np.float32(0.0)), np.float32(ny - 1.001))
        cz = min(max(z, np.float32(0.0)), np.float32(nz - 1.001))
        valid[i] = one if abs(cx - x) + abs(cy - y) + abs(cz - z) < np.float32(0.01) else np.float32(0.0)
        ix, iy, iz = np.int32(cx), np.int32(cy), np.int32(cz)
        fx, fy, fz = cx - np.float32(ix), cy - np.float32(iy), cz - np.float32(iz)
        at = ix * slab + iy * step + iz
        near = (one - fy) * ((one - fz) * image[at] + fz * image[at + 1]) + fy * (
            (one - fz) * image[at + step] + fz * image[at + step + 1]
        )
        at += slab
        far = (one - fy) * ((one - fz) * image[at] + fz * image[at + 1]) + fy * (
            (one - fz) * image[at + step] + fz * image[at + step + 1]
        )
        read[i] = near + fx * (far - near)


@njit(cache=True, nogil=True)
def note_larger(products, which, best, found):  # type: ignore[no-untyped-def]
    """Where ``products`` exceed ``best``, take them over and note ``which`` in ``found``; all (n, m)."""
    for row in range(products.shape[0]):
        for column in range(products.shape[1]):
            larger = products[row, column] > best[row, column]
            best[row, column] = products[row, column] if larger else best[row, column]
            found[row, column] = which if larger else found[row, column]
