"""Structural similarity of two pictures or volumes at several scales (MS-SSIM)."""

from __future__ import annotations

import numpy as np
from numba import njit

from synth.errors import PermanentError
from synth.evaluation.images.layout import Floats32
from synth.evaluation.images.quality.screening import run_rows
from synth.evaluation.ranks import Floats

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of the scales, finest first
SPREAD = 1.5  # pixels
REACH = 5
WINDOW = 2 * REACH + 1
C1, C2 = np.float32(0.01**2), np.float32(0.03**2)  # for intensities from 0 to 1
ALONE = np.ones(1, np.float32)


def count_scales(shape: tuple[int, ...]) -> int:
    """Return how many scales a grid allows: each halves it, and the coarsest must hold the window of 11 pixels."""
    return sum(min(shape) // 2**scale >= WINDOW for scale in range(len(WEIGHTS)))


def compare_structure(first: Floats32, second: Floats32) -> Floats:
    """Return (n,) MS-SSIM, from 0 to 1, of (n, y, x) or (n, x, y, z) images with intensities from 0 to 1.

    The product over scales of the mean contrast-structure term, and at the coarsest of the mean SSIM, to the powers
    0.0448, 0.2856, 0.3001, 0.2363, 0.1333 (Wang et al., Asilomar 2003), means below 0 taken as 0. Grids below 176
    pixels get fewer scales, whose powers are scaled to the sum 1; raises PermanentError below 11 pixels. Borders are
    reflected, and left out of the contrast-structure term, as torchmetrics does.
    """
    scales = count_scales(first.shape[1:])
    if not scales:
        raise PermanentError(
            f"images of {first.shape[1:]} are smaller than the window of {WINDOW} pixels; enlarge them."
        )
    weights = np.array(WEIGHTS[:scales]) / sum(WEIGHTS[:scales])
    window = np.exp(-0.5 * (np.arange(-REACH, REACH + 1) / SPREAD) ** 2)
    window = (window / window.sum()).astype(np.float32)
    deep = first.ndim == 4
    pair = [np.ascontiguousarray(side if deep else side[:, None]) for side in (first, second)]
    found = np.ones(len(first))
    for scale in range(scales):
        terms = np.empty((len(first), 2))
        args = (pair[0], pair[1], window if deep else ALONE, window, terms)
        run_rows(len(first), lambda start, stop, _: _compare_pairs(*args, start, stop))  # noqa: B023
        found *= np.maximum(terms[:, int(scale < scales - 1)], 0.0) ** weights[scale]
        pair = [_halve(side, deep) for side in pair]
    return found


def _halve(images: Floats32, deep: bool) -> Floats32:
    """Return (n, z, y, x) images averaged over blocks of 2 along each axis; the first only if they are deep."""
    n, z, y, x = images.shape
    steps = (2 if deep else 1, 2, 2)
    even = images[:, : z // steps[0] * steps[0], : y // 2 * 2, : x // 2 * 2]
    blocks = even.reshape(n, z // steps[0], steps[0], y // 2, 2, x // 2, 2)
    return np.ascontiguousarray(blocks.mean(axis=(2, 4, 6)), np.float32)


@njit(inline="always")
def _reflect(place, size):  # type: ignore[no-untyped-def]
    place = abs(place)
    return 2 * (size - 1) - place if place >= size else place


@njit(cache=True, nogil=True, fastmath={"contract"})
def _compare_pairs(first, second, window_z, window, terms, start, stop):  # type: ignore[no-untyped-def]
    """Fill (n, 2) with the mean SSIM and the mean contrast-structure term of (n, z, y, x) images."""
    _, depth, height, width = first.shape
    slices = np.empty((5, height, width), np.float32)  # both images, their squares and their product
    rows = np.empty((5, width + 2 * REACH), np.float32)
    moments = np.empty((5, width), np.float32)
    for pair in range(start, stop):
        whole = contrast = 0.0
        for z in range(depth):
            _blend_slices(first[pair], second[pair], window_z, z, slices)
            middle_z = window_z.size == 1 or REACH <= z < depth - REACH
            for y in range(height):
                _blend_rows(slices, window, y, rows)
                _blend_pixels(rows, window, moments)
                both, inner = _sum_terms(moments)
                whole += both
                if middle_z and REACH <= y < height - REACH:
                    contrast += inner
        inside = (height - 2 * REACH) * (width - 2 * REACH) * (depth if window_z.size == 1 else depth - 2 * REACH)
        terms[pair, 0], terms[pair, 1] = whole / (depth * height * width), contrast / max(inside, 1)


@njit(nogil=True, fastmath={"contract"})
def _blend_slices(first, second, window, z, slices):  # type: ignore[no-untyped-def]
    """Fill the five maps of slice z, blurred along z."""
    slices[:] = 0
    _, height, width = slices.shape
    reach = window.size // 2
    for step in range(window.size):
        weight = window[step]
        place = _reflect(z + step - reach, first.shape[0])
        for y in range(height):
            for x in range(width):
                a, b = first[place, y, x], second[place, y, x]
                slices[0, y, x] += weight * a
                slices[1, y, x] += weight * b
                slices[2, y, x] += weight * a * a
                slices[3, y, x] += weight * b * b
                slices[4, y, x] += weight * a * b


@njit(nogil=True, fastmath={"contract"})
def _blend_rows(slices, window, y, rows):  # type: ignore[no-untyped-def]
    """Fill the five rows of row y, blurred along y, with reflected ends."""
    _, height, width = slices.shape
    rows[:] = 0
    for part in range(5):
        row = rows[part]
        for step in range(window.size):
            weight, source = window[step], slices[part, _reflect(y + step - REACH, height)]
            for x in range(width):
                row[x + REACH] += weight * source[x]
        for x in range(REACH):
            row[x] = row[2 * REACH - x]
            row[width + 2 * REACH - 1 - x] = row[width - 1 + x]


@njit(nogil=True, fastmath={"contract"})
def _blend_pixels(rows, window, moments):  # type: ignore[no-untyped-def]
    """Fill the five rows of moments, blurred along x."""
    moments[:] = 0
    for part in range(5):
        row, found = rows[part], moments[part]
        for step in range(window.size):
            weight = window[step]
            for x in range(found.size):
                found[x] += weight * row[x + step]


@njit(nogil=True, fastmath={"contract", "reassoc"})
def _sum_terms(moments):  # type: ignore[no-untyped-def]
    """Return the sum of SSIM over a row, and of the contrast-structure term over its inner part."""
    width = moments.shape[1]
    whole = contrast = np.float32(0)
    zero, two = np.float32(0), np.float32(2)
    for x in range(width):
        a, b = moments[0, x], moments[1, x]
        spread = max(moments[2, x] - a * a, zero) + max(moments[3, x] - b * b, zero)
        term = (two * (moments[4, x] - a * b) + C2) / (spread + C2)
        whole += (two * a * b + C1) / (a * a + b * b + C1) * term
        if REACH <= x < width - REACH:
            contrast += term
    return whole, contrast
