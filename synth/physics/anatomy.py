"""A subject's head: the template deformed, and the three unknowns solved so that the drawn volumes are met.

Unknowns of a visit: the head's scale (intracranial volume), the fluid added to the ventricles (ventricle volume) and
the gain of fluid against brain (brain volume: sulci widen as fluid wins partial-volume voxels); with lesions, also
their radius. They are solved on the labels that will be delivered, then stored in the scan's row.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from synth.physics import deformation, lesions, render
from synth.physics.grid import LABELS, Grid, node_positions_mm
from synth.physics.template import Template, load_template
from synth.seeds import stream_from_key

CENTRE_MM = np.array([0.0, -17.0, 4.0])  # MNI position that lies in the middle of the field of view
_SOLVER_MM = (4.0, 2.0)  # sampling of the solver's labels: coarse first, then fine
_ROUNDS = (5, 3)
_TEMPLATE_ML = 2030.0
_BLUR_MM = 0.7  # 0.35 voxels of 2 mm
_TEMPLATE_VENTRICLE_ML = 17.4


@dataclass(frozen=True, slots=True)
class Shape:
    """What is drawn of a subject's head, whatever the visit. Keys are Philox keys."""

    velocity_key: int
    lesion_key: int
    broad_mm: float
    fine_mm: float
    stretch: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Pose:
    """How the head lies on one visit: rotation about x, y, z in degrees and shift in millimetres."""

    rotation_deg: tuple[float, float, float]
    shift_mm: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Volumes:
    """What the labels of one visit are to have, in millilitres."""

    brain_ml: float
    ventricle_ml: float
    lesion_ml: float


@dataclass(frozen=True, slots=True)
class Solution:
    """The solved unknowns of one visit."""

    scale: float
    ventricle_added_ml: float
    log_fluid_gain: float
    lesion_count: int
    lesion_radius_scale: float


def draw_shape(generator: np.random.Generator, velocity_key: int, lesion_key: int) -> Shape:
    """Draw the shape of one head: broad and fine deformation (root mean square, mm) and stretch per axis."""
    broad, fine = float(generator.uniform(1.8, 2.8)), float(generator.uniform(0.8, 1.3))
    log_stretch = np.clip(generator.standard_normal(3), -2, 2) * 0.025
    log_stretch -= log_stretch.mean()
    x, y, z = (float(s) for s in np.exp(log_stretch))
    return Shape(velocity_key, lesion_key, broad, fine, (x, y, z))


def draw_pose(generator: np.random.Generator) -> Pose:
    """Draw how the head lies in the scanner: a few degrees and millimetres."""
    rx, ry, rz = (float(r) for r in np.clip(generator.standard_normal(3), -2, 2) * (3.0, 2.0, 2.0))
    x, y, z = (float(s) for s in np.clip(generator.standard_normal(3), -2, 2) * 1.5)
    return Pose((rx, ry, rz), (x, y, z))


@functools.lru_cache(maxsize=4)
def _individual_field(velocity_key: int, broad_mm: float, fine_mm: float) -> deformation.Field:
    generator = stream_from_key(velocity_key)
    broad = deformation.draw_velocity(generator, 28.0, broad_mm)
    fine = deformation.draw_velocity(generator, 13.0, fine_mm)
    return deformation.integrate_velocity(broad + fine)


def template_coordinates(
    grid: Grid, template: Template, shape: Shape, pose: Pose, scale: float, ventricle_added_ml: float
) -> NDArray[np.float64]:
    """Return the template voxel coordinate of every B-spline node of ``grid``, shape (nx, ny, nz, 3)."""
    turned = (node_positions_mm(grid) - pose.shift_mm) @ Rotation.from_euler(
        "xyz", pose.rotation_deg, degrees=True
    ).as_matrix()
    place = turned / (scale * np.asarray(shape.stretch)) + CENTRE_MM
    place = place + deformation.interpolate_field(
        _individual_field(shape.velocity_key, shape.broad_mm, shape.fine_mm), place
    )
    place = place + deformation.interpolate_field(deformation.ventricle_field(ventricle_added_ml), place)
    return np.asarray(place - template.origin_mm)


def template_for(grid: Grid) -> Template:
    """Return the template, smoothed for voxels larger than its own 1 mm so that fine folds do not alias."""
    return load_template(0.0 if grid.resolution_mm <= 1 else _BLUR_MM)


@functools.lru_cache(maxsize=4)
def _draw_lesion_table(lesion_key: int) -> NDArray[np.float32]:
    return lesions.draw_lesions(stream_from_key(lesion_key))


def visible_lesions(template: Template, shape: Shape, count: int, radius_scale: float) -> lesions.Lesions:
    """Return the first ``count`` lesions of a subject, their radii scaled, ready for rendering."""
    if count == 0:
        return lesions.no_lesions()
    table = _draw_lesion_table(shape.lesion_key)[:count]
    return lesions.bin_lesions(lesions.scale_lesions(table, radius_scale), template.fractions.shape[:3])


def solve_visit(grid: Grid, shape: Shape, pose: Pose, intracranial_ml: float, visit: Volumes) -> Solution:
    """Solve the unknowns of one visit so that its labels have the drawn volumes (millilitres)."""
    template = template_for(grid)
    scale = float(np.cbrt(intracranial_ml / _TEMPLATE_ML))
    added = visit.ventricle_ml / scale**3 - _TEMPLATE_VENTRICLE_ML
    low, high = deformation.ventricle_range_ml()
    for spacing, rounds in zip(_SOLVER_MM, _ROUNDS, strict=True):
        step = max(1, round(spacing / grid.resolution_mm))
        voxel_ml = (step * grid.resolution_mm) ** 3 / 1000
        last: tuple[float, float] | None = None
        slope = 0.8
        for _ in range(rounds):
            nodes = template_coordinates(grid, template, shape, pose, scale, added)
            final = spacing == _SOLVER_MM[-1]
            seen = render.render_volumes(grid, template, nodes, 1.0, lesions.no_lesions(), step=step, with_margin=final)
            counts = np.bincount(seen.tissue.ravel(), minlength=5) * voxel_ml
            missing = (visit.ventricle_ml - counts[LABELS["ventricles"]]) / scale**3
            error = float(intracranial_ml / counts[1:].sum())
            if abs(missing) < 0.004 * visit.ventricle_ml and abs(error - 1) < 0.002:
                break
            if last is not None and abs(added - last[0]) > 0.05:
                slope = float(np.clip((last[1] - missing) / (added - last[0]), 0.05, 2.0))
            last = (added, missing)
            added = float(np.clip(added + missing / slope, low, high))
            scale *= float(np.cbrt(error))
    gain = _solve_gain(seen.margin, visit.brain_ml / voxel_ml)
    return _solve_lesions(grid, template, shape, pose, Solution(scale, added, gain, 0, 1.0), visit.lesion_ml)


def _solve_gain(margin: NDArray[np.float32], brain_voxels: float) -> float:
    """Return the log of the fluid gain that leaves ``brain_voxels`` to brain: an order statistic of the margins."""
    values = margin[margin > -99]
    keep = int(np.clip(round(brain_voxels), 1, len(values) - 1))
    return float(np.clip(np.partition(values, len(values) - keep - 1)[len(values) - keep - 1], -8.0, 8.0))


def _solve_lesions(
    grid: Grid, template: Template, shape: Shape, pose: Pose, solution: Solution, lesion_ml: float
) -> Solution:
    """Choose how many lesions show, and solve their radius so that the mask has ``lesion_ml``."""
    if lesion_ml <= 0:
        return solution
    count = lesions.count_lesions(_draw_lesion_table(shape.lesion_key), lesion_ml, solution.scale**3)
    nodes = template_coordinates(grid, template, shape, pose, solution.scale, solution.ventricle_added_ml)
    radius, gain = 1.0, float(np.exp(solution.log_fluid_gain))
    for _ in range(6):
        seen = render.render_volumes(grid, template, nodes, gain, visible_lesions(template, shape, count, radius))
        found = max(float(seen.lesion.sum()) * grid.resolution_mm**3 / 1000, 0.01)
        if abs(found - lesion_ml) < 0.02 * lesion_ml:
            break
        radius = float(np.clip(radius * np.cbrt(lesion_ml / found), 0.3, 4.0))
    return Solution(solution.scale, solution.ventricle_added_ml, solution.log_fluid_gain, count, radius)


def shape_from_json(values: Mapping[str, Any]) -> Shape:
    """Return the Shape stored in a scan's row (the inverse of dataclasses.asdict with keys as hexadecimal)."""
    x, y, z = values["stretch"]
    return Shape(
        int(values["velocity_key"], 16), int(values["lesion_key"], 16), values["broad_mm"], values["fine_mm"], (x, y, z)
    )
