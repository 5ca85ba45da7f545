"""Mass effect: tissue that is pushed away from a centre, on the nodes of synth.physics.deformation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from synth.physics import deformation
from synth.physics.diseases import space
from synth.physics.look import Fields
from synth.physics.template import load_template

_BONE_MM = 12.0  # nearer to the skull than this, tissue gives way less
_MOST = 0.6  # of the radius: beyond it the middle would fold


def push_away(centre_mm: NDArray[np.float64], radius_mm: float, push_mm: float) -> Fields:
    """Return the fields of a mass of ``radius_mm`` about ``centre_mm`` (MNI) that pushes its surface by ``push_mm``.

    Inside, displacement grows with the distance; outside it falls with its square, as in an incompressible medium. It
    ends at the skull. Negative: a scar that draws tissue in.
    """
    away = deformation.node_positions_mm() - centre_mm
    distance = np.linalg.norm(away, axis=-1)
    push_mm = float(np.clip(push_mm, -_MOST * radius_mm, _MOST * radius_mm))
    profile = np.where(distance < radius_mm, 1 / radius_mm, radius_mm**2 / np.maximum(distance, 1e-6) ** 3)
    moved = -push_mm * profile[..., None] * away * _freedom()[..., None]
    return np.concatenate([moved, np.zeros_like(moved[..., :1])], axis=-1)


def _freedom() -> NDArray[np.float64]:
    """Return how freely each node moves: 0 at the skull and beyond, 1 deep in the brain."""
    origin = load_template().origin_mm
    index = np.moveaxis(deformation.node_positions_mm() - origin, -1, 0)
    depth = ndimage.map_coordinates(space.distance_mm("dura"), index, order=1, mode="constant")
    share = np.clip(depth / _BONE_MM, 0, 1)
    return np.asarray(share**2 * (3 - 2 * share))
