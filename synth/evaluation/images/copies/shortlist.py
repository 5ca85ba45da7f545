"""Which training images may be what an image was copied from: products of short descriptors, over a bank of maps.

A descriptor is a small smoothed view, reduced by principal components of the training images and divided by their
spread, so that what many patients share does not decide. Every map of the bank is applied to the image's side at once:
mapping, smoothing and reducing are linear, so they are one matrix.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import permutations, product

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from synth.evaluation.images.copies.registration import Maps, note_larger
from synth.evaluation.images.copies.views import (
    OUTER,
    Viewer,
    apply_matrices,
    make_window,
    scale_grid,
    smoothing_matrix,
)
from synth.evaluation.images.layout import Floats32

SMALL = {2: 32, 3: 12}  # pixels of a small view along the longest side, by the number of axes
SMOOTH = 2.0  # pixels of the working grid
LENGTH = {2: 128, 3: 64}  # numbers of a descriptor at most
RIDGE = 0.1  # of the mean variance, added to each before dividing
FITTED = 4_096  # training images that components are fitted to at most
ZOOMS = (0.85, 0.94, 1.04)
TURN = np.deg2rad(8.0)
SHIFT = 0.0375  # of the longest side
FLIPPED = {2: 1, 3: 0}  # the axis from left to right


def make_bank(grid: Sequence[int]) -> Maps:
    """Return (count, axes, axes + 1) maps from an image's places to those of the training image, in pixels of ``grid``.

    As it is and flipped from left to right: turned by -8, 0 and 8 degrees, zoomed by 0.85, 0.94 and 1.04, shifted in
    a pattern that alternates. Once each: the other flips, and quarter turns of squares.
    """
    axes = len(grid)
    one = np.eye(axes)
    mirror = one.copy()
    mirror[FLIPPED[axes], FLIPPED[axes]] = -1
    found = [_make_map(flip, np.zeros(axes)) for flip in (one, mirror)]
    for flip in (one, mirror):
        for i, zoom in enumerate(ZOOMS):
            for j, turn in enumerate(_list_turns(axes)):
                shifts = _list_shifts(axes, (i + j) % 2 == 0) * SHIFT * max(grid)
                found += [_make_map(flip @ turn * zoom, shift) for shift in shifts]
    found += [_make_map(turn, np.zeros(axes)) for turn in _list_symmetries(grid)]
    return np.stack(found)


def _make_map(linear: NDArray[np.float64], shift: NDArray[np.float64]) -> Maps:
    return np.column_stack([linear, shift])


def _list_turns(axes: int) -> Iterator[NDArray[np.float64]]:
    yield np.eye(axes)
    for first in range(axes):
        for second in range(first + 1, axes):
            for angle in (-TURN, TURN):
                turn = np.eye(axes)
                turn[[first, second], [first, second]] = np.cos(angle)
                turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
                yield turn


def _list_shifts(axes: int, along_axes: bool) -> NDArray[np.float64]:
    if along_axes:
        return np.concatenate([np.eye(axes), -np.eye(axes)]) * 1.3
    corners = np.array(list(product((-1.0, 1.0), repeat=axes)))
    if axes == 3:
        corners = corners[corners.prod(axis=1) > 0]
    return np.concatenate([np.zeros((1, axes)), corners])


def _list_symmetries(grid: Sequence[int]) -> Iterator[NDArray[np.float64]]:
    """Yield flips of all axes, and of square pictures also the exchange of axes, beyond the two that the bank has."""
    axes = len(grid)
    mirrored = tuple(-1.0 if axis == FLIPPED[axes] else 1.0 for axis in range(axes))
    orders = permutations(range(axes)) if axes == 2 and len(set(grid)) == 1 else [tuple(range(axes))]
    for order in orders:
        for signs in product((1.0, -1.0), repeat=axes):
            if order != tuple(range(axes)) or signs not in ((1.0,) * axes, mirrored):
                yield np.eye(axes)[list(order)] * np.asarray(signs)[:, None]


class Shortlist:
    """Descriptors of training images, and which of them are nearest to an image under any map of the bank."""

    def __init__(self, viewer: Viewer, views: Floats32) -> None:
        """Fit the components to ``views``, the (n, *grid) views of training images or of a sample of them."""
        grid = viewer.grid
        self._small = scale_grid(grid, min(SMALL[len(grid)], max(grid)))
        self._scale = max(self._small) / max(grid)
        self._shrink = [smoothing_matrix(to, size, SMOOTH) for to, size in zip(self._small, grid, strict=True)]
        self._window = np.sqrt(make_window(self._small, OUTER, 0.1)).ravel()
        self.bank = make_bank(grid)
        small = self._shrink_views(views) * self._window
        small /= _measure_length(small)
        middle = np.asarray(small.mean(axis=0), np.float32)
        variance, components = np.linalg.eigh(np.cov((small - middle).T))
        kept = slice(-min(LENGTH[len(grid)], len(views) - 1), None)
        spread = np.sqrt(variance[kept] + RIDGE * variance[kept].mean() + 1e-9)
        self._reduce = np.asarray(components[:, kept] / spread, np.float32)
        self._middle = np.asarray(middle @ self._reduce, np.float32)
        self._mapped = np.concatenate([self._map_components(one) for one in self.bank], axis=1)

    def describe(self, views: Floats32) -> Floats32:
        """Return the (n, length) descriptors of some training images."""
        small = self._shrink_views(views) * self._window
        described = np.asarray(small / _measure_length(small) @ self._reduce - self._middle, np.float32)
        return np.asarray(described / _measure_length(described), np.float32)

    def choose(self, views: Floats32, descriptors: Floats32, count: int) -> tuple[NDArray[np.int64], Maps]:
        """Return the ``count`` likeliest training images of each view, in no order, and their best maps of the bank.

        ``descriptors`` are those of all training images.
        """
        small = self._shrink_views(views)
        small /= _measure_length(small * self._window)
        mapped = (small @ self._mapped).reshape(len(views), len(self.bank), -1) - self._middle
        mapped /= np.maximum(np.linalg.norm(mapped, axis=2, keepdims=True), 1e-9)
        best = np.full((len(views), len(descriptors)), -2, np.float32)
        which = np.zeros(best.shape, np.int16)
        for number in range(len(self.bank)):
            products = np.ascontiguousarray(mapped[:, number]) @ descriptors.T
            note_larger(products, np.int16(number), best, which)
        count = min(count, len(descriptors))
        chosen = np.argpartition(best, -count, axis=1)[:, -count:]
        return chosen, self.bank[np.take_along_axis(which, chosen, axis=1)]

    def _shrink_views(self, views: Floats32) -> Floats32:
        return apply_matrices(views, self._shrink).reshape(len(views), -1)

    def _map_components(self, place_map: Maps) -> Floats32:
        """Return (small, length): the components read from a small view that is mapped first."""
        linear = np.asarray(np.linalg.inv(place_map[:, :-1]), np.float64)
        shift = -linear @ place_map[:, -1] * self._scale
        reading = _reading_matrix(self._small, linear, shift)
        return np.asarray(reading.T @ (self._window[:, None] * self._reduce), np.float32)


def _measure_length(vectors: Floats32) -> Floats32:
    return np.asarray(np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9), np.float32)


def _reading_matrix(grid: Sequence[int], linear: NDArray[np.float64], shift: NDArray[np.float64]) -> sparse.csr_matrix:
    """Return (places, places): linear interpolation of a small view at linear x + shift; nothing lies beyond it."""
    middle = (np.asarray(grid) - 1)[:, None] / 2
    places = np.indices(grid).reshape(len(grid), -1) - middle
    read = linear @ places + shift[:, None] + middle
    inside = ((read >= -0.5) & (read <= 2 * middle + 0.5)).all(axis=0)
    read = np.clip(read, 0, 2 * middle)
    low = np.minimum(np.floor(read), np.maximum(2 * middle - 1, 0)).astype(int)
    part = read - low
    rows, columns, weights = [], [], []
    for corner in product((0, 1), repeat=len(grid)):
        side = np.asarray(corner)[:, None]
        weights.append(np.where(side, part, 1 - part).prod(axis=0) * inside)
        columns.append(np.ravel_multi_index(tuple(low + side), grid, mode="clip"))
        rows.append(np.arange(places.shape[1]))
    size = places.shape[1]
    entries = (np.concatenate(weights), (np.concatenate(rows), np.concatenate(columns)))
    return sparse.csr_matrix(entries, shape=(size, size))
