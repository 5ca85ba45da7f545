"""Where diseases sit in the template: distances from ventricles, cortex and dura, smooth noise, levels of a field."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from synth.physics.overlay import FULL
from synth.physics.template import GM, VENTRICLE, WM, find_nearest, load_fractions, load_map, load_template, place_axes

Floats = NDArray[np.float32]

_DISTANCE_STEP = 0.25  # mm; distances are kept as uint8
_NOISE_MM = 2  # grid that noise is drawn on
_FINE, _COARSE = 4000, 97  # levels are kept for each of the first voxels, then for one in so many


@functools.cache
def _distances(place: str) -> NDArray[np.uint8]:
    if place == "dura":  # from within to the outside of the skull
        away, _ = find_nearest(load_fractions()[0].sum(axis=0) > 0.5)
    else:
        away, _ = find_nearest(load_map({"ventricles": VENTRICLE, "cortex": GM}[place]) < 0.5)
    return np.asarray(np.minimum(np.rint(away / _DISTANCE_STEP), 255), np.uint8)


def distance_mm(place: str, box: tuple[slice, ...] = (slice(None),) * 3) -> Floats:
    """Return the distance of each template voxel from ``place`` ("ventricles", "cortex" or "dura"), 64 mm at most."""
    return np.asarray(_distances(place)[box] * np.float32(_DISTANCE_STEP))


def of_distance(
    place: str, box: tuple[slice, ...], rule: Callable[[NDArray[np.float64]], NDArray[np.float64]]
) -> Floats:
    """Return ``rule`` of the distance of each template voxel from ``place``: as distance_mm, but each step once."""
    return rule(_DISTANCE_STEP * np.arange(256.0)).astype(np.float32)[_distances(place)[box]]


def positions_mm(box: tuple[slice, ...] = (slice(None),) * 3) -> list[Floats]:
    """Return the MNI position of template voxels along x, y and z, each ready to be broadcast."""
    template = load_template()
    axes = place_axes(template.fractions.shape[:3], template.origin_mm)
    return [axis[tuple(box[n] if n == own else slice(None) for n in range(3))] for own, axis in enumerate(axes)]


def find_box(inside: NDArray[np.bool_]) -> tuple[slice, slice, slice]:
    """Return the smallest box that holds all of ``inside``."""
    x, y, z = ndimage.find_objects(inside.astype(np.int8))[0]
    return x, y, z


def box_around(centre_mm: NDArray[np.float64], reach_mm: float) -> tuple[slice, slice, slice]:
    """Return the box of template voxels within ``reach_mm`` of an MNI position along each axis."""
    template = load_template()
    middle = centre_mm - template.origin_mm
    x, y, z = (
        slice(max(round(m - reach_mm), 0), min(round(m + reach_mm) + 1, n))
        for m, n in zip(middle, template.fractions.shape[:3], strict=True)
    )
    return x, y, z


def draw_coarse(generator: np.random.Generator, shape: tuple[int, ...], scale_mm: float) -> Floats:
    """Draw the noise of draw_noise on its own grid, whose nodes lie on every second voxel of ``shape`` and beyond."""
    coarse = tuple(-(-n // _NOISE_MM) + 2 for n in shape)
    noise = ndimage.gaussian_filter(
        generator.standard_normal(coarse, np.float32), scale_mm / _NOISE_MM, mode="wrap", truncate=3
    )
    return np.asarray(noise / noise.std(), np.float32)


def refine_noise(coarse: Floats, shape: tuple[int, ...]) -> Floats:
    """Return noise of draw_coarse in voxels of 1 mm: linear, axis by axis, so every second voxel is a mean of two."""
    for axis, count in enumerate(shape):
        line = np.moveaxis(coarse, axis, 0)
        fine = np.empty((count, *line.shape[1:]), np.float32)
        fine[::2] = line[: -(-count // 2)]
        odd = fine[1::2]
        np.add(line[: count // 2], line[1 : count // 2 + 1], out=odd)
        odd *= np.float32(0.5)
        coarse = np.moveaxis(fine, 0, axis)
    return np.ascontiguousarray(coarse)


def draw_noise(generator: np.random.Generator, shape: tuple[int, ...], scale_mm: float) -> Floats:
    """Draw Gaussian noise of unit variance at 1 mm, correlated over ``scale_mm`` (the width of its filter)."""
    return refine_noise(draw_coarse(generator, shape, scale_mm), shape)


def white_matter(box: tuple[slice, ...] = (slice(None),) * 3) -> Floats:
    """Return the template's share of white matter."""
    return load_map(WM, box)


def brain(box: tuple[slice, ...] = (slice(None),) * 3) -> Floats:
    """Return the template's share of grey and white matter."""
    return load_map(GM, box) + load_map(WM, box)


@dataclass(frozen=True, slots=True)
class Levels:
    """What volume of a field lies above a level: ``size_ml`` grows, ``level`` falls."""

    size_ml: NDArray[np.float64]
    level: NDArray[np.float64]

    def at(self, size_ml: float) -> float:
        """Return the level that ``size_ml`` of the field exceed."""
        return float(np.interp(size_ml, self.size_ml, self.level))


def rank_levels(values: Floats, weights: Floats) -> Levels:
    """Return the levels of ``values`` in voxels of 1 mm that count by ``weights``."""
    keep = weights > 0
    flat, each = values[keep], weights[keep]
    order = np.argsort(flat)[::-1]
    held = np.cumsum(each[order], dtype=np.float64) / 1000
    chosen = np.unique(np.concatenate([np.arange(0, min(_FINE, len(order))), np.arange(0, len(order), _COARSE)]))
    return Levels(held[chosen], flat[order[chosen]].astype(np.float64))


def to_fractions(values: Floats, level: float, width: float) -> NDArray[np.uint8]:
    """Return fractions (0 to FULL) that rise with ``values`` over ``width`` around ``level``, where they are half."""
    found = values * np.float32(FULL / width)
    found += np.float32(FULL * (0.5 - level / width))
    np.clip(found, 0, FULL, out=found)
    return np.asarray(np.rint(found, out=found), np.uint8)
