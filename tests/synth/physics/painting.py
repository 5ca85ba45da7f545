"""Images of the kernel alone: given tissue, nodes and signals, nothing drawn or solved."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from synth.physics.grid import Grid, node_positions_mm
from synth.physics.individual import INSIDE_STEP, ODDS_STEP, Person
from synth.physics.lesions import Lesions, no_lesions
from synth.physics.render import Rendering, render_volumes
from synth.seeds import key_words, stream_key

GRID_1MM, GRID_2MM = Grid(1.0), Grid(2.0)


@functools.cache
def full_template(values: tuple[int, int, int, int]) -> Person:
    """Return a person who is one tissue everywhere (GM, WM, CSF, ventricle; 0 or 255), beyond the field of view."""
    grey, *others = (50.0 if value else 0.0 for value in values)
    odds = np.empty((172, 212, 180, 5), np.int16)
    odds[:] = [*(round((other - grey) / ODDS_STEP) for other in others), round(1 / INSIDE_STEP), 0]
    return Person(odds, np.ones((43, 53, 45), bool), np.zeros(3))


def voxel_nodes(grid: Grid, bias: int = 0) -> NDArray[np.float64]:
    """Return nodes that map every voxel centre to its own position in mm from the first one, plus unit biases."""
    nodes = node_positions_mm(grid) - grid.affine[:3, 3]
    return np.concatenate([nodes, np.ones((*nodes.shape[:3], bias))], axis=-1)


def keys_of(*names: str) -> NDArray[np.uint32]:
    return np.asarray([key_words(stream_key(1, 2, 3, name)) for name in names], np.uint32)


def paint(
    grid: Grid,
    template: Person,
    nodes: NDArray[np.float64],
    signals: list[tuple[float, float, float, float]],
    sigma: list[float],
    scale: list[float],
    keys: NDArray[np.uint32],
    lesions: Lesions | None = None,
    **more: int,
) -> Rendering:
    return render_volumes(
        grid,
        template,
        nodes,
        (0.3, -0.2),
        lesions or no_lesions(),
        signals=np.asarray(signals, np.float32),
        sigma=np.asarray(sigma, np.float32),
        scale=np.asarray(scale, np.float32),
        keys=keys,
        **more,
    )
