"""White-matter lesions of multiple sclerosis: drawn once per subject, in template space, in order of appearance.

Placement prefers the neighbourhood of the ventricles and, for a smaller share, of the cortex (Filippi et al., Brain
2019;142:1858). Single-lesion volumes are log-normal, median about 0.07 mL, so that most are small and few are large.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synth.physics.overlay import WHITE, Part
from synth.physics.template import find_white_matter_sites

LESION_COLUMNS = 11  # centre (3), 1 / radius (3), two lobes: strength and phase (4), number of the part
MAX_LESIONS = 400
_CELL_MM = 8.0
_MEDIAN_ML = 0.07
_LOG_SPREAD = 1.1
_PERIVENTRICULAR_SHARE = 0.6
_JUXTACORTICAL_SHARE = 0.2
_DECAY_MM = 4.0


@dataclass(frozen=True, slots=True)
class Lesions:
    """Ellipsoidal lesions of white matter in template millimetres, binned into cells for look-up.

    ``table`` is float32 (n, LESION_COLUMNS); ``cell_start`` and ``cell_items`` list the lesions that reach each cell.
    """

    table: NDArray[np.float32]
    cell_start: NDArray[np.int32]
    cell_items: NDArray[np.int32]
    cell_shape: NDArray[np.int64]
    parts: tuple[Part, ...] = (Part("lesion", WHITE),)


def _site_weights(distance_mm: NDArray[np.float32]) -> NDArray[np.float64]:
    weights = np.exp(-distance_mm.astype(np.float64) / _DECAY_MM)
    return np.asarray(weights / weights.sum())


def draw_lesions(generator: np.random.Generator) -> NDArray[np.float32]:
    """Draw MAX_LESIONS lesions in order of appearance, float32 (n, LESION_COLUMNS), see Lesions.

    Positions and radii are in template voxels of 1 mm. A subject shows the first lesions that make up its load.
    """
    sites = find_white_matter_sites()
    even = np.full(len(sites.position_mm), 1 / len(sites.position_mm))
    rest = 1 - _PERIVENTRICULAR_SHARE - _JUXTACORTICAL_SHARE
    weights = (
        _PERIVENTRICULAR_SHARE * _site_weights(sites.ventricle_distance_mm)
        + _JUXTACORTICAL_SHARE * _site_weights(sites.cortex_distance_mm)
        + rest * even
    )
    cumulative = np.cumsum(weights)
    chosen = np.searchsorted(cumulative / cumulative[-1], generator.random(MAX_LESIONS))
    volume_mm3 = 1000 * _MEDIAN_ML * np.exp(_LOG_SPREAD * generator.standard_normal(MAX_LESIONS))
    volume_mm3 = np.clip(volume_mm3, 14, 6000)
    radius_mm = np.cbrt(3 * volume_mm3 / (4 * np.pi))
    stretch = np.exp(0.25 * generator.standard_normal((MAX_LESIONS, 3)))
    stretch /= np.cbrt(stretch.prod(axis=1, keepdims=True))
    table = np.zeros((MAX_LESIONS, LESION_COLUMNS), np.float32)
    table[:, :3] = sites.position_mm[chosen] + generator.uniform(-0.5, 0.5, (MAX_LESIONS, 3)) - sites.template_origin_mm
    table[:, 3:6] = 1 / (radius_mm[:, None] * stretch)
    table[:, 6] = generator.uniform(0.05, 0.18, MAX_LESIONS)
    table[:, 7] = generator.uniform(0, 2 * np.pi, MAX_LESIONS)
    table[:, 8] = generator.uniform(0.05, 0.12, MAX_LESIONS)
    table[:, 9] = generator.uniform(0, 2 * np.pi, MAX_LESIONS)
    return table


def lesion_volumes_ml(table: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the volume of each ellipsoid, in template millilitres."""
    return np.asarray(4 / 3 * np.pi / np.prod(table[:, 3:6].astype(np.float64), axis=1) / 1000)


def count_lesions(table: NDArray[np.float32], load_ml: float, volume_scale: float) -> int:
    """Return how many of the first lesions make up ``load_ml``, if template volumes shrink by ``volume_scale``."""
    if load_ml <= 0:
        return 0
    volume_ml = lesion_volumes_ml(table) * volume_scale
    return min(int(np.searchsorted(np.cumsum(volume_ml), load_ml)) + 1, len(table))


def scale_lesions(table: NDArray[np.float32], radius_scale: float) -> NDArray[np.float32]:
    """Return the lesions with their radii multiplied by ``radius_scale``."""
    scaled = table.copy()
    scaled[:, 3:6] /= np.float32(radius_scale)
    return scaled


def no_lesions() -> Lesions:
    """Return an empty set of lesions."""
    return Lesions(
        np.zeros((0, LESION_COLUMNS), np.float32), np.zeros(1, np.int32), np.zeros(0, np.int32), np.zeros(3, np.int64)
    )


def bin_lesions(table: NDArray[np.float32], extent_voxels: tuple[int, ...]) -> Lesions:
    """Bin lesions (positions in template voxels of 1 mm) into cells of 8 mm for look-up during rendering."""
    cells = np.asarray([math.ceil(n / _CELL_MM) for n in extent_voxels], np.int64)
    lists: list[list[int]] = [[] for _ in range(int(np.prod(cells)))]
    for number, row in enumerate(table):
        reach = 1.6 / row[3:6] + 1
        low = np.clip(((row[:3] - reach) // _CELL_MM).astype(int), 0, cells - 1)
        high = np.clip(((row[:3] + reach) // _CELL_MM).astype(int), 0, cells - 1)
        for a in range(low[0], high[0] + 1):
            for b in range(low[1], high[1] + 1):
                for c in range(low[2], high[2] + 1):
                    lists[int((a * cells[1] + b) * cells[2] + c)].append(number)
    start = np.concatenate([[0], np.cumsum([len(items) for items in lists])]).astype(np.int32)
    items = np.asarray([number for items in lists for number in items], np.int32)
    return Lesions(table, start, items, cells)
