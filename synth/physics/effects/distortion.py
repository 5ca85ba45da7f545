"""Distortion near air: sinuses and ear canals bend the static field, and voxels are read out where they do not lie."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from synth.physics.effects.base import CONTRAST, Effect, Values, Volume
from synth.physics.sequences.base import Parameter

GAMMA_HZ_T = 42.577e6
AIR_PPM = 9.4  # susceptibility of air over tissue: Schenck, Med Phys 1996;23:815
# Middle (MNI, mm) and radius over ``radius_mm`` of what holds air below the brain: sphenoid and ethmoid sinuses, ears.
CAVITIES = (
    ((0.0, 24.0, -44.0), 1.0),
    ((0.0, 54.0, -38.0), 0.9),
    ((48.0, -22.0, -48.0), 0.6),
    ((-48.0, -22.0, -48.0), 0.6),
)


def field_of_sphere(offset_mm: NDArray[Any], radius_mm: float, difference_ppm: float) -> NDArray[np.float64]:
    """Return the field in ppm of B0 (along z) at ``offset_mm`` (..., 3) from the middle of a sphere.

    (chi / 3) (a/r)^3 (3 cos^2 - 1), the field of a dipole. Source: Schenck 1996, equation 17. Within the sphere, where
    nothing is imaged, the field of its surface is carried on, so that no edge is seen.
    """
    square = np.maximum((offset_mm**2).sum(axis=-1), 1e-9)
    cosine = offset_mm[..., 2] ** 2 / square
    return np.asarray(difference_ppm / 3 * (radius_mm**2 / np.maximum(square, radius_mm**2)) ** 1.5 * (3 * cosine - 1))


def place_cavities(
    radius_mm: float, scale: NDArray[Any], turn: NDArray[np.float64], shift_mm: NDArray[Any], centre_mm: NDArray[Any]
) -> list[tuple[NDArray[Any], float]]:
    """Return middle and radius (mm) of each cavity in the image of a head of this size and pose."""
    return [
        (((np.asarray(middle) - centre_mm) * scale) @ turn.T + shift_mm, radius_mm * share)
        for middle, share in CAVITIES
    ]


def field_hz(
    positions_mm: NDArray[Any], cavities_mm: list[tuple[NDArray[Any], float]], tesla: float
) -> NDArray[np.float64]:
    """Return the frequency offset at ``positions_mm`` (..., 3) of cavities (middle and radius in image millimetres)."""
    ppm = sum(field_of_sphere(positions_mm - middle, radius, AIR_PPM) for middle, radius in cavities_mm)
    return np.asarray(ppm * 1e-6 * tesla * GAMMA_HZ_T)


@njit(cache=True, nogil=True)
def _deposit(lines, moves, out):  # type: ignore[no-untyped-def]
    """Spread the signal of each voxel evenly over where its two edges are moved to."""
    count = lines.shape[1]
    for line in range(lines.shape[0]):
        before = moves[line, 0]
        for n in range(count):
            after = moves[line, n] if n + 1 == count else (moves[line, n] + moves[line, n + 1]) / 2
            low, high = n + before, n + 1 + after
            before = after
            if low > high:
                low, high = high, low
            width = max(high - low, 1e-6)
            for place in range(max(math.floor(low), 0), min(math.floor(low + width), count - 1) + 1):
                overlap = min(low + width, place + 1.0) - max(low, float(place))
                out[line, place] += lines[line, n] * max(overlap, 0.0) / width


def shift_voxels(volume: Volume, shift_voxels: NDArray[Any], axis: int) -> Volume:
    """Return the volume with the signal of each voxel moved by ``shift_voxels`` along ``axis``.

    A voxel's signal is spread evenly over where its edges go, so none is lost but what leaves the field of view: where
    voxels are pushed together they brighten, and where the mapping folds they add up. Source: Jezzard and Balaban, MRM
    1995;34:65.
    """
    lines = np.ascontiguousarray(np.moveaxis(volume, axis, -1), np.float32)
    moves = np.ascontiguousarray(np.moveaxis(np.broadcast_to(shift_voxels, volume.shape), axis, -1), np.float64)
    out = np.zeros_like(lines)
    count = lines.shape[-1]
    _deposit(lines.reshape(-1, count), moves.reshape(-1, count), out.reshape(-1, count))
    return np.ascontiguousarray(np.moveaxis(out, -1, axis))


def bandwidth_hz(values: Values, series: str) -> float:
    """Return the bandwidth of a voxel: that of echo-planar readouts for diffusion, else of ordinary ones."""
    return float(values["epi_bandwidth_hz" if series == "DWI" else "bandwidth_hz"])


DISTORTION = Effect(
    "static field near air: voxels shift and pile up along the lines",
    {
        "bandwidth_hz": Parameter("Hz", "bandwidth of a voxel", 20, 2000, (150, 300)),
        "epi_bandwidth_hz": Parameter("Hz", "bandwidth of a voxel, diffusion", 5, 2000, (30, 60)),
        "radius_mm": Parameter("mm", "radius of the largest air cavity", 2, 20, (9, 13)),
    },
    CONTRAST,
    shared=True,
)
