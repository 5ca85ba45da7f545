"""Where the cortex of a person folds: what is the same for everybody, and the fields that one person draws.

A sulcus is a sheet that runs from the surface of the brain inwards. The sheets are the zeros of a Gaussian random field
of waves about FOLD_MM long, which every voxel reads near the point of the surface that it lies below, so that a sheet
goes straight down. Dividing by the envelope of the wave turns the field into millimetres from the nearest sheet.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from synth.physics.template import CSF, SUBARACHNOID_MM, WM, find_nearest

Floats = NDArray[np.float32]

GAP_MM = 3  # distance of the nodes of a person's fields
# Of the integers that places, depths and widths are stored in
PLACE_STEP, DEPTH_STEP, WIDTH_STEP = 1 / 128, 1 / 8, 1 / 100
FOLD_MM = 14.0  # two sulci to a wave: neighbouring sulci are 7.5 mm apart
_DEPTH_SHARE = 0.15  # of a step inwards that is seen by the field: sulci bend a little
_BANDWIDTH = 0.25  # relative spread of the waves' frequency
_FUNDUS_WAVE_MM, _ROUGH_WAVE_MM = 30.0, 10.0
# Where the place that is read moves so many mm a mm, fields are squeezed into false sulci: these end as if deeper.
_SEAM_FROM, _SEAM_WIDTH, _SEAM_MM = 2.6, 1.2, 16.0
_WIDTHS = (0.8, 2.5)  # range of the factor from mm along the surface to mm below it


@dataclass(frozen=True, slots=True)
class Surface:
    """How voxels lie below the surface of the brain (its hull, the midline and wide fissures).

    ``place`` is int16 (x, y, z, 3): the voxel where the fields are read, in PLACE_STEP; ``depth`` uint8 (x, y, z): mm
    below the surface, in DEPTH_STEP; ``seam`` the same: how much earlier sulci end, where fields are torn; ``width``
    mm for each mm of a field, in WIDTH_STEP; ``across`` float32 (nodes, 3, 3): the projection onto the normal.
    """

    place: NDArray[np.int16]
    depth: NDArray[np.uint8]
    seam: NDArray[np.uint8]
    width: NDArray[np.uint8]
    across: Floats


def find_surface(maps: Floats, origin_mm: NDArray[np.float64]) -> Surface:
    """Return the surface of the template's brain; ``maps`` (4, x, y, z) are its tissue fractions."""
    x = (origin_mm[0] + np.arange(maps.shape[1]))[:, None, None]
    hull = ndimage.binary_erosion(maps.sum(axis=0) > 0.5, iterations=SUBARACHNOID_MM)  # the pia
    midline = (np.abs(x) < 1.5) & (maps[WM] < 0.3)
    outer, _ = ndimage.label(~hull | midline | (maps[CSF] > 0.6))  # without specks of fluid in the depth of sulci
    depth, nearest = find_nearest(outer != outer[0, 0, 0])
    place = np.empty((*depth.shape, 3), np.int16)
    stretch = np.zeros(depth.shape, np.float32)
    for axis, count in enumerate(depth.shape):
        here = np.arange(count, dtype=np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
        read = nearest[axis].astype(np.float32) * np.float32(1 - _DEPTH_SHARE) + here * np.float32(_DEPTH_SHARE)
        read = ndimage.gaussian_filter(read, 2.0)  # bridges the seams, where two surfaces are equally near
        place[..., axis] = np.rint(read / PLACE_STEP)
        for slope in (np.gradient(read, axis=a) for a in range(3)):
            stretch += slope * slope
    del nearest, outer, hull, read, slope  # each as large as the template
    across = _find_normals(depth)
    below = np.rint(np.minimum(depth, 255 * DEPTH_STEP) / DEPTH_STEP).astype(np.uint8)
    del depth
    stretch = np.sqrt(stretch, out=stretch)
    seam = np.clip((stretch - _SEAM_FROM) / _SEAM_WIDTH, 0, 1) * np.float32(_SEAM_MM)
    sooner = np.rint(seam / DEPTH_STEP).astype(np.uint8)
    del seam
    width = np.clip(math.sqrt(2) / np.maximum(stretch, 0.1), *_WIDTHS)
    return Surface(place, below, sooner, np.rint(width / WIDTH_STEP).astype(np.uint8), across)


def _find_normals(depth: Floats) -> Floats:
    """Return the structure tensor of ``depth`` at the nodes, of trace 1: the mean of n n^T over normals n."""
    coarse = ndimage.gaussian_filter(depth, 1.0)[::GAP_MM, ::GAP_MM, ::GAP_MM]
    slopes = np.gradient(coarse)
    tensor = np.stack([np.stack([ndimage.gaussian_filter(a * b, 1.0) for a in slopes], -1) for b in slopes], -1)
    tensor /= np.maximum(np.trace(tensor, axis1=-2, axis2=-1), 1e-3)[..., None, None]
    missing = [(0, n - m) for n, m in zip(_count_nodes(depth.shape), coarse.shape, strict=True)]
    return np.asarray(np.pad(tensor, [*missing, (0, 0), (0, 0)], mode="edge"), np.float32)


def _count_nodes(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(n // GAP_MM + 2 for n in shape)


def draw_waves(
    generator: np.random.Generator, nodes: tuple[int, ...], wave_mm: float, bandwidth: float
) -> NDArray[np.float64]:
    """Draw a Gaussian field of waves about ``wave_mm`` long, of mean 0 and variance 1, at ``nodes`` GAP_MM apart."""
    noise = generator.standard_normal(nodes, np.float32)
    axes = [np.fft.fftfreq(n, GAP_MM) for n in nodes[:2]] + [np.fft.rfftfreq(nodes[2], GAP_MM)]
    frequency = np.sqrt(sum(axis**2 for axis in np.meshgrid(*axes, indexing="ij")))
    passed = np.exp(-(((frequency * wave_mm - 1) / bandwidth) ** 2) / 2)
    field = np.fft.irfftn(np.fft.rfftn(noise) * passed, nodes, axes=(0, 1, 2))
    return np.asarray(field / field.std())


def draw_fields(generator: np.random.Generator, surface: Surface) -> Floats:
    """Draw the fields of one person at the nodes, float32 (nodes, 3): distance from a sulcus in mm, depth, roughness.

    A wave of amplitude A is w = A sin(t): with its slope along the surface g = A cos(t) 2 pi / FOLD_MM, the distance
    from the zero is t FOLD_MM / (2 pi) = asin(w / sqrt(w^2 + (g FOLD_MM / 2 pi)^2)) FOLD_MM / (2 pi).
    """
    nodes = surface.across.shape[:3]
    rate = FOLD_MM / (2 * np.pi)
    wave = draw_waves(generator, nodes, FOLD_MM, _BANDWIDTH)
    slopes = np.moveaxis(np.asarray(np.gradient(wave, GAP_MM)), 0, -1) * rate
    steep = (slopes**2).sum(axis=-1) - np.einsum("xyza,xyzab,xyzb->xyz", slopes, surface.across, slopes)
    # a random wave has its slope in two directions along the surface, a plane one in one: 1.5 is in between
    envelope = np.sqrt(wave**2 + 1.5 * np.maximum(steep, 0) + 0.01)
    distance = np.arcsin(np.clip(wave / envelope, -1, 1)) * rate
    others = [draw_waves(generator, nodes, length, 0.3) for length in (_FUNDUS_WAVE_MM, _ROUGH_WAVE_MM)]
    return np.ascontiguousarray(np.stack([distance, *others], axis=-1), np.float32)
