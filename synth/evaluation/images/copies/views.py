"""Pictures and volumes as the search for copies looks at them: on one working grid, locally normalised, in a window.

    z = (x - m) / (s + a S + b)      m, s: local mean and standard deviation;  S: the mean of s over the window

so that gain, offset and (nearly) gamma do not matter, and smooth anatomy that all patients share weighs little. Places
whose neighbours all have the very same value (padding, fill of a rotation, saturation) carry nothing: they have z = 0,
and do not take part in means. Local contrast normalisation: Jarrett et al., ICCV 2009.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synth.evaluation.images.layout import Floats32

WORK = {2: 64, 3: 32}  # pixels along the longest side, by the number of axes
LOCAL = 3.0  # pixels of the working grid: standard deviation of the local mean
FLOOR, NOISE = 0.2, 0.004  # a and b above; b is about the rounding to 8 bits
LARGEST = 3.0  # of |z|: markers and tubes do not decide
OUTER, INNER = 0.97, 0.93  # radii, relative to half the grid: what is normalised, and what is compared
JUMP = 0.2  # between neighbours, of the image's range, at the edge of fill
SOFT = 0.06  # width of the window's edge


@dataclass(frozen=True, slots=True)
class Look:
    """One way of comparing: how much the image and the training image are smoothed, in pixels of the working grid.

    The training image is tried at several widths. ``local`` is the width of the local mean, ``power`` what the ratio
    of distances is raised to: smoothed, different patients look more alike, and a ratio says less.
    """

    image: float
    training: tuple[float, ...]
    local: float = LOCAL
    power: float = 1.0


LOOKS = (Look(1.0, (1.0, 1.5, 2.3)), Look(2.2, (2.2,), 4.0, 0.6))  # sharp or blurred copies; noisy ones


def scale_grid(shape: Sequence[int], longest: int) -> tuple[int, ...]:
    """Return the grid of the same aspect whose longest side has ``longest`` pixels."""
    return tuple(max(4, round(size * longest / max(shape))) for size in shape)


def make_window(shape: Sequence[int], radius: float, soft: float = SOFT) -> Floats32:
    """Return 1 within the inscribed ellipse and 0 beyond ``radius`` of it: a rotation's corners never come into it."""
    axes = np.meshgrid(*[(np.arange(n) - (n - 1) / 2) / (n / 2) for n in shape], indexing="ij")
    distance = np.sqrt(sum(axis**2 for axis in axes))
    return np.asarray(np.clip((radius - distance) / soft, 0, 1), np.float32)


def resampling_matrix(to: int, size: int) -> Floats32:
    """Return (to, size): cubic interpolation (Keys, 1981, a = -1/2), widened where it shrinks; edges are repeated."""
    scale = max(1.0, size / to)
    centre = (np.arange(to) + 0.5) * size / to - 0.5
    reach = int(np.ceil(2 * scale)) + 1
    place = np.floor(centre)[:, None].astype(int) + np.arange(-reach, reach + 1)
    d = np.abs(place - centre[:, None]) / scale
    near, far = 1.5 * d**3 - 2.5 * d**2 + 1, -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
    weight = np.where(d < 1, near, np.where(d < 2, far, 0.0))
    found = np.zeros((to, size))
    np.add.at(found, (np.arange(to)[:, None], np.clip(place, 0, size - 1)), weight)
    return np.asarray(found / found.sum(axis=1, keepdims=True), np.float32)


def averaging_matrix(to: int, size: int) -> Floats32:
    """Return (to, size): the share that each pixel of ``size`` has in each of ``to``."""
    edges, pixels = np.arange(to + 1) * size / to, np.arange(size)
    shared = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return np.asarray(np.maximum(shared, 0) * to / size, np.float32)


def smoothing_matrix(to: int, size: int, width: float) -> Floats32:
    """Return (to, size): a Gaussian of standard deviation ``width`` pixels (of ``size``) about each place of ``to``."""
    centre = (np.arange(to) + 0.5) * size / to - 0.5
    weight = np.exp(-0.5 * ((np.arange(size) - centre[:, None]) / width) ** 2)
    return np.asarray(weight / weight.sum(axis=1, keepdims=True), np.float32)


def apply_matrices(images: Floats32, matrices: Sequence[Floats32]) -> Floats32:
    """Return (n, *grid) images with a matrix applied along each axis of the grid."""
    for axis, matrix in enumerate(matrices, start=1):
        images = np.moveaxis(np.matmul(np.moveaxis(images, axis, -1), matrix.T), -1, axis)
    return np.ascontiguousarray(images)


def read_nearest(images: Floats32, place: NDArray[np.int64], maps: NDArray[np.float64], scale: float) -> Floats32:
    """Return (n, k, *shape): image ``place`` (n, k) read at A x + b at the nearest pixel, the border's beyond it.

    ``maps`` (n, k, axes, axes + 1) are in pixels from the centre of another grid, ``scale`` pixels of the images long.
    """
    shape = images.shape[1:]
    middle = (np.asarray(shape) - 1) / 2
    x = np.indices(shape).reshape(len(shape), -1) - middle[:, None]
    read = maps[..., :-1] @ x + maps[..., -1:] * scale + middle[:, None]
    nearest = np.clip(np.rint(read).astype(int), 0, np.asarray(shape)[:, None] - 1)
    found = images[(place[..., None], *np.moveaxis(nearest, -2, 0))]
    return np.asarray(found.reshape(*place.shape, *shape))


def correlate(weights: Floats32, first: Floats32, second: Floats32) -> Floats32:
    """Return the weighted correlation along the last axis; 0 where nothing varies or has weight."""
    total = np.maximum(weights.sum(axis=-1), 1e-6)
    one = first - ((weights * first).sum(axis=-1) / total)[..., None]
    other = second - ((weights * second).sum(axis=-1) / total)[..., None]
    energy = (weights * one**2).sum(axis=-1) * (weights * other**2).sum(axis=-1)
    return np.asarray((weights * one * other).sum(axis=-1) / np.sqrt(np.maximum(energy, 1e-9)), np.float32)


class Viewer:
    """Brings images of one shape to the working grid and normalises them for a look."""

    def __init__(self, shape: tuple[int, ...], looks: Sequence[Look] = LOOKS) -> None:
        self.shape, self.looks = shape, tuple(looks)
        self.grid = scale_grid(shape, WORK[len(shape)])
        self.window = make_window(self.grid, INNER)
        self._inside = (make_window(self.grid, OUTER) > 0).astype(np.float32)
        self._local = {look.local: self._smooth(look.local) for look in self.looks}
        self._resample = {
            width: [
                s @ resampling_matrix(to, n) for s, to, n in zip(self._smooth(width), self.grid, shape, strict=True)
            ]
            for look in self.looks
            for width in (look.image, *look.training)
        }
        self._average = [averaging_matrix(to, n) for to, n in zip(self.grid, shape, strict=True)]

    def find_valid(self, images: Floats32) -> Floats32:
        """Return (n, *grid): 0 in flat areas and in fill, else 1.

        Flat is where a pixel and all neighbours have the very same value. Fill has one value up to the border along an
        axis, and differs by a jump from what it was put around; the pixels between may be a mixture.
        """
        high = low = images
        axes = range(1, images.ndim)
        for axis in axes:
            high, low = _spread(high, axis, np.maximum), _spread(low, axis, np.minimum)
        flat: np.ndarray = high == low
        fill = np.zeros(images.shape, bool)
        for axis in axes:
            fill |= _find_run(images, axis) | np.flip(_find_run(np.flip(images, axis), axis), axis)
        for axis in axes:
            flat, fill = _spread(flat, axis, np.logical_or), _spread(fill, axis, np.logical_or)
        flat |= fill & (high - low > JUMP * np.ptp(images, axis=tuple(axes), keepdims=True))
        return np.asarray(apply_matrices(flat.astype(np.float32), self._average) < 0.5, np.float32)

    def view(self, images: Floats32, width: float, local: float, valid: Floats32) -> Floats32:
        """Return z of (n, *shape) images smoothed by ``width``; ``valid`` is what find_valid says."""
        values = apply_matrices(images, self._resample[width])
        smooth, axes = self._local[local], tuple(range(1, values.ndim))
        weight = valid * self._inside
        total = np.maximum(apply_matrices(weight, smooth), 1e-3)
        values -= apply_matrices(values * weight, smooth) / total
        values *= weight
        spread = np.sqrt(np.maximum(apply_matrices(values * values, smooth) / total, 0.0))
        mean = (spread * weight).sum(axis=axes, keepdims=True) / np.maximum(weight.sum(axis=axes, keepdims=True), 1.0)
        return np.asarray(np.clip(values / (spread + FLOOR * mean + NOISE), -LARGEST, LARGEST))

    def _smooth(self, width: float) -> list[Floats32]:
        return [smoothing_matrix(size, size, width) for size in self.grid]


def _find_run(images: Floats32, axis: int) -> NDArray[np.bool_]:
    """Return which pixels have, with all before them along an axis, the value of the first two."""
    first, second = (np.take(images, [place], axis) for place in (0, 1))
    return np.logical_and.accumulate((images == first) & (first == second), axis=axis)


def _spread(values: np.ndarray, axis: int, largest: np.ufunc) -> np.ndarray:
    """Return the maximum (or minimum) of each place and its two neighbours along an axis."""
    found = values.copy()
    inner = np.moveaxis(found, axis, 0)
    source = np.moveaxis(values, axis, 0)
    largest(inner[1:], source[:-1], out=inner[1:])
    largest(inner[:-1], source[1:], out=inner[:-1])
    return found
