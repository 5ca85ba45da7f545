"""Smooth, invertible deformations of the template.

A stationary velocity field v is integrated to the diffeomorphism exp(v) by scaling and squaring
(Arsigny et al., MICCAI 2006). Fields live on a coarse grid of nodes and are displacements in millimetres,
shape (x, y, z, 3). Rendering reads them through cubic B-splines (synth.physics.render).
"""

from __future__ import annotations

import functools

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import ndimage

from synth.physics.template import VENTRICLE, load_map, load_template

Field = NDArray[np.float64]

NODE_MM = 6.0
GRID_LOW_MM = np.array([-108.0, -144.0, -108.0])  # MNI position of node (0, 0, 0)
GRID_SHAPE = (37, 43, 37)
_SQUARINGS = 5
# Template millilitres pushed out of the source of ventricle_fields: its table. Part of the source lies in the rim, and
# rendering smooths the field, so the ventricles gain about half. Beyond 400 the middle of the fluid starts to fold;
# that is 120 mL in heads of 1,200 mL and more, 105 mL in the smallest.
_ADDED_ML = np.concatenate(
    [np.linspace(-160, -100, 4), np.linspace(-80, 40, 25), np.linspace(50, 250, 21), np.linspace(275, 400, 6)]
)


@njit(cache=True, nogil=True)
def _interpolate(field: Field, index: NDArray[np.float64], out: NDArray[np.float64]) -> None:
    """Trilinear look-up of ``field`` (x, y, z, 3) at ``index`` (n, 3) in nodes, constant beyond the grid."""
    nx, ny, nz, _ = field.shape
    for n in range(index.shape[0]):
        x = min(max(index[n, 0], 0.0), nx - 1.000001)
        y = min(max(index[n, 1], 0.0), ny - 1.000001)
        z = min(max(index[n, 2], 0.0), nz - 1.000001)
        i, j, k = int(x), int(y), int(z)
        fx, fy, fz = x - i, y - j, z - k
        for axis in range(3):
            near = (1 - fy) * ((1 - fz) * field[i, j, k, axis] + fz * field[i, j, k + 1, axis]) + fy * (
                (1 - fz) * field[i, j + 1, k, axis] + fz * field[i, j + 1, k + 1, axis]
            )
            far = (1 - fy) * ((1 - fz) * field[i + 1, j, k, axis] + fz * field[i + 1, j, k + 1, axis]) + fy * (
                (1 - fz) * field[i + 1, j + 1, k, axis] + fz * field[i + 1, j + 1, k + 1, axis]
            )
            out[n, axis] = (1 - fx) * near + fx * far


def interpolate_field(field: Field, position_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the displacement of ``field`` at ``position_mm`` (..., 3), trilinear, constant beyond the grid."""
    index = ((position_mm - GRID_LOW_MM) / NODE_MM).reshape(-1, 3)
    out = np.empty_like(index)
    _interpolate(field, index, out)
    return np.asarray(out.reshape(position_mm.shape))


def node_positions_mm() -> NDArray[np.float64]:
    """Return the MNI position of every node, shape GRID_SHAPE + (3,)."""
    axes = [low + NODE_MM * np.arange(n) for low, n in zip(GRID_LOW_MM, GRID_SHAPE, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)


def compose_fields(outer: Field, inner: Field) -> Field:
    """Return the displacement of x -> outer(inner(x)), each given as its displacement field."""
    return np.asarray(inner + interpolate_field(outer, node_positions_mm() + inner))


def integrate_velocity(velocity: Field) -> Field:
    """Return the displacement field of exp(velocity), by scaling and squaring."""
    field: Field = velocity / 2**_SQUARINGS
    for _ in range(_SQUARINGS):
        field = compose_fields(field, field)
    return field


def draw_velocity(generator: np.random.Generator, scale_mm: float, amplitude_mm: float) -> Field:
    """Draw a Gaussian random velocity field, correlated over ``scale_mm``, of ``amplitude_mm`` root mean square."""
    noise = generator.standard_normal((3, *GRID_SHAPE))
    smooth = np.stack([ndimage.gaussian_filter(n, scale_mm / NODE_MM, mode="wrap", truncate=3) for n in noise], -1)
    return np.asarray(smooth * (amplitude_mm / np.sqrt(np.mean(smooth**2))))


@functools.cache
def ventricle_fields() -> NDArray[np.float32]:
    """Return the table of fields that push _ADDED_ML out of the ventricles, shape (step, x, y, z, 3).

    The velocity is the potential flow of a source spread over the template's ventricles (div v = source, curl v = 0):
    the ventricles swell, tissue around them is displaced but keeps its volume. Solved by FFT on the node grid. The
    fields map image to template, so they follow the flow backwards.
    """
    origin = load_template().origin_mm
    smooth = ndimage.gaussian_filter(load_map(VENTRICLE), NODE_MM / 2)
    index = np.moveaxis(node_positions_mm() - origin, -1, 0)
    source = ndimage.map_coordinates(smooth, index, order=1, mode="constant")
    source *= 1000 / (source.sum() * NODE_MM**3)  # one millilitre per unit of time
    waves = np.meshgrid(*(2 * np.pi * np.fft.fftfreq(n, NODE_MM) for n in GRID_SHAPE), indexing="ij")
    square = sum(wave**2 for wave in waves)
    square[0, 0, 0] = np.inf
    potential = -np.fft.fftn(source) / square
    velocity = np.stack([np.fft.ifftn(1j * wave * potential).real for wave in waves], axis=-1)
    return np.stack([integrate_velocity(-velocity * added).astype(np.float32) for added in _ADDED_ML])


def ventricle_field(added_ml: float) -> Field:
    """Return the field whose source pushes out ``added_ml`` of the template (negative: draws in).

    The ventricles grow with it, by about half as much; solve_visit finds the source that gives a wanted volume.
    """
    table = ventricle_fields()
    place = np.clip(np.interp(added_ml, _ADDED_ML, np.arange(len(table))), 0, len(table) - 1.000001)
    low = int(place)
    near, far = table[low].astype(np.float64), table[low + 1]
    return np.asarray(near + (place - low) * (far - near))


def ventricle_range_ml() -> tuple[float, float]:
    """Return the smallest and largest source that ventricle_field knows, in template millilitres."""
    return float(_ADDED_ML[0]), float(_ADDED_ML[-1])
