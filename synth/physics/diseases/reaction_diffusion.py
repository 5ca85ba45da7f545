"""Growth of a glioma by reaction and diffusion: dc/dt = div(D grad c) + rho c (1 - c), no flux out of the brain.

Swanson, Alvord, Murray, Cell Prolif 2000;33:317: cells migrate faster in white than in grey matter. In uniform tissue
the front moves at 2 sqrt(D rho) (Fisher 1937; Kolmogorov, Petrovsky, Piskunov 1937).
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@njit(cache=True, nogil=True)
def _grow(density, diffusion, rate, steps, dt, levels, arrival):  # type: ignore[no-untyped-def]
    """Step ``density`` explicitly; note in ``arrival`` (levels, x, y, z) the time at which each level is crossed.

    ``diffusion`` is in voxels squared per unit of time; between two voxels it is the harmonic mean, 0 at the border.
    """
    nx, ny, nz = density.shape
    after = density.copy()
    for step in range(steps):
        now = (step + 1) * dt
        for i in range(1, nx - 1):
            for j in range(1, ny - 1):
                for k in range(1, nz - 1):
                    d, c = diffusion[i, j, k], density[i, j, k]
                    if d == 0:
                        continue
                    flow = np.float32(0.0)
                    for axis in range(3):
                        for side in (-1, 1):
                            a, b, e = i, j, k
                            if axis == 0:
                                a += side
                            elif axis == 1:
                                b += side
                            else:
                                e += side
                            other = diffusion[a, b, e]
                            if other > 0:
                                flow += 2 * d * other / (d + other) * (density[a, b, e] - c)
                    new = min(c + dt * (flow + rate * c * (1 - c)), np.float32(1.0))
                    after[i, j, k] = new
                    for n in range(levels.shape[0]):
                        if c < levels[n] <= new:
                            arrival[n, i, j, k] = now - dt * (new - levels[n]) / (new - c)
        density, after = after, density


def grow_tumour(
    diffusion_mm2: Floats, rho: float, spacing_mm: float, seed: tuple[int, int, int], years: float, levels: Floats
) -> Floats:
    """Return when the density of cells reaches each of ``levels``, in years, shape (levels, x, y, z); inf where never.

    ``diffusion_mm2`` is D of each voxel in mm2 a year (0: no tissue), ``rho`` the net rate of proliferation a year. The
    time step keeps the explicit scheme stable: dt <= dx^2 / (6 D), and dt rho <= 0.1.
    """
    diffusion = np.pad(diffusion_mm2 / np.float32(spacing_mm**2), 1).astype(np.float32)
    density = np.zeros_like(diffusion)
    x, y, z = (place + 1 for place in seed)
    density[x, y, z] = 1.0
    arrival = np.full((len(levels), *diffusion.shape), np.inf, np.float32)
    arrival[:, x, y, z] = 0
    dt = min(0.9 / (6 * float(diffusion.max())), 0.1 / rho)
    _grow(density, diffusion, np.float32(rho), math.ceil(years / dt), np.float32(dt), levels, arrival)
    return arrival[:, 1:-1, 1:-1, 1:-1]


def front_speed_mm(diffusion_mm2: float, rho: float) -> float:
    """Return the speed of the front in uniform tissue, mm a year: 2 sqrt(D rho)."""
    return 2 * math.sqrt(diffusion_mm2 * rho)
