"""Receive bias: the smooth sensitivity of the receive coil, multiplied with the signal."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from synth.physics.grid import FIELD_OF_VIEW_MM, Grid, node_positions_mm
from synth.physics.template import WM, Template
from synth.seeds import stream_from_key


def bias_at_nodes(
    grid: Grid, key: int, bias_range: float, template_voxel: NDArray[np.float64], template: Template
) -> NDArray[np.float64]:
    """Return the multiplicative bias at the B-spline nodes of ``grid``, mean 1 over white matter.

    A random cubic polynomial of position, scaled so that it spans ``bias_range`` within the head (0.2 means 0.90 to
    1.10, BrainWeb's "20 % non-uniformity"). ``template_voxel`` is where each node falls in the template.
    """
    x, y, z = np.moveaxis(2 * node_positions_mm(grid) / np.asarray(FIELD_OF_VIEW_MM), -1, 0)
    powers = [(a, b, c) for a in range(4) for b in range(4) for c in range(4) if 0 < a + b + c <= 3]
    weights = stream_from_key(key).standard_normal(len(powers))
    field = sum(weight * x**a * y**b * z**c / (a + b + c) for weight, (a, b, c) in zip(weights, powers, strict=True))
    index = np.rint(template_voxel).astype(int)
    inside = np.all((index >= 0) & (index < template.fractions.shape[:3]), axis=-1)
    head = np.zeros(inside.shape, bool)
    white = np.zeros(inside.shape)
    fractions = template.fractions[tuple(index[inside].T)]
    head[inside] = fractions.sum(axis=-1) > 127
    white[inside] = fractions[:, WM] / 255
    spread = field[head].max() - field[head].min()
    bias = 1 + bias_range * (field - (field * white).sum() / white.sum()) / spread
    return np.asarray(np.clip(bias, 0.2, 3.0))
