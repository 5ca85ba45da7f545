"""A subject's head: the person's tissue deformed, and the unknowns solved so that the drawn volumes are met.

Unknowns of a visit: the head's scale (intracranial volume), the fluid added to the ventricles (ventricle volume), the
gain of fluid against brain (brain volume: sulci widen) and of white against grey matter (grey-matter volume: the cortex
thins). They are solved on voxels that will be delivered, then stored in the row.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from synth.physics import deformation, render
from synth.physics.grid import LABELS, Grid, node_positions_mm
from synth.physics.individual import Person, sample_person
from synth.physics.look import Look, fields_at
from synth.physics.template import load_template
from synth.seeds import stream_from_key

CENTRE_MM = np.array([0.0, -17.0, 4.0])  # MNI position that lies in the middle of the field of view
_SOLVER_MM = (4.0, 2.0)  # sampling of the solver's labels: coarse first, then fine
_ROUNDS = (8, 5)
_STEP = 0.65  # of the gains where parts cover voxels, or tissue is stretched: whole ones would overshoot
_LEAST_STEP, _SWING = 0.3, 0.25  # and of those that swing about their end by more than this share
_NEAR = {4.0: 3.0, 2.0: 2.0}  # tolerances: a step from so near mostly ends within them, and is not looked at again
_VENTRICLE_SLOPE = 0.5  # millilitres that the ventricles gain for one that is pushed out of them, at first
_TEMPLATE_ML = 2030.0
_HALF_WIDTH_MM = 70.0
_GAIN_RANGE = (-60.0, 30.0)  # more would overflow float32


@dataclass(frozen=True, slots=True)
class Body:
    """Whose tissue is deformed, and its volumes in the template's space before anything is solved, in millilitres."""

    person: Person
    intracranial_ml: float = _TEMPLATE_ML
    ventricle_ml: float = 17.4


@dataclass(frozen=True, slots=True)
class Shape:
    """What is drawn of a subject's head, whatever the visit. Keys are Philox keys."""

    velocity_key: int
    tissue_key: int
    broad_mm: float
    fine_mm: float
    torque_mm: float
    stretch: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Pose:
    """How the head lies on one visit: rotation about x, y, z in degrees and shift in millimetres."""

    rotation_deg: tuple[float, float, float]
    shift_mm: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Volumes:
    """What the labels of one visit are to have, in millilitres; without ``grey_ml`` the template's balance is kept."""

    brain_ml: float
    ventricle_ml: float
    grey_ml: float | None = None


@dataclass(frozen=True, slots=True)
class Solution:
    """The solved unknowns of one visit."""

    scale: float
    ventricle_added_ml: float
    log_white_gain: float
    log_fluid_gain: float

    @property
    def log_gains(self) -> tuple[float, float]:
        """The gains of white matter and of fluid, as render_volumes takes them."""
        return self.log_white_gain, self.log_fluid_gain


def draw_shape(generator: np.random.Generator, velocity_key: int, tissue_key: int) -> Shape:
    """Draw the shape of one head: broad and fine deformation (root mean square, mm), stretch per axis and torque.

    Torque is how far the right hemisphere lies in front of the left one: about 1 mm (approximate; the right frontal
    and left occipital lobes protrude, Kong et al., PNAS 2018;115:E5154).
    """
    broad, fine = float(generator.uniform(1.8, 2.8)), float(generator.uniform(0.8, 1.3))
    log_stretch = np.clip(generator.standard_normal(3), -2, 2) * 0.025
    log_stretch -= log_stretch.mean()
    x, y, z = (float(s) for s in np.exp(log_stretch))
    torque = float(1.0 + np.clip(generator.standard_normal(), -2, 2))
    return Shape(velocity_key, tissue_key, broad, fine, torque, (x, y, z))


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
    grid: Grid, shape: Shape, pose: Pose, scale: float, ventricle_added_ml: float, look: Look | None = None
) -> NDArray[np.float64]:
    """Return the template voxel coordinate of every B-spline node of ``grid``, shape (nx, ny, nz, 3).

    With a ``look`` that moves tissue, its four fields are added to the channels (see render_volumes).
    """
    turned = (node_positions_mm(grid) - pose.shift_mm) @ Rotation.from_euler(
        "xyz", pose.rotation_deg, degrees=True
    ).as_matrix()
    place = turned / (scale * np.asarray(shape.stretch)) + CENTRE_MM
    place[..., 1] -= shape.torque_mm * place[..., 0] / _HALF_WIDTH_MM
    place = place + deformation.interpolate_field(
        _individual_field(shape.velocity_key, shape.broad_mm, shape.fine_mm), place
    )
    place = place + deformation.interpolate_field(deformation.ventricle_field(ventricle_added_ml), place)
    nodes = np.asarray(place - load_template().origin_mm)
    return nodes if look is None or look.fields is None else np.concatenate([nodes, fields_at(look.fields, place)], -1)


def sample_body(shape: Shape) -> Body:
    """Return the body of a person who is sampled from the template."""
    return Body(sample_person(shape.tissue_key))


def guess_scale(intracranial_ml: float, body: Body | None = None) -> float:
    """Return about the scale of a head of this intracranial volume."""
    return float(np.cbrt(intracranial_ml / (body.intracranial_ml if body is not None else _TEMPLATE_ML)))


def render_labels(
    grid: Grid,
    shape: Shape,
    pose: Pose,
    solution: Solution,
    look: Look | None = None,
    step: int = 1,
    with_log_odds: bool = False,
    body: Body | None = None,
    only_parts: bool = False,
) -> render.Rendering:
    """Return the labels of a visit (see render_volumes); by default of the body that is sampled by ``shape``."""
    look, body = look or Look(), body or sample_body(shape)
    nodes = template_coordinates(grid, shape, pose, solution.scale, solution.ventricle_added_ml, look)
    return render.render_volumes(
        grid, body.person, nodes, solution.log_gains, look.lesions, look.overlays,
        moved=look.fields is not None, step=step, with_log_odds=with_log_odds,
        only_parts=only_parts,
    )  # fmt: skip


def solve_visit(
    grid: Grid,
    shape: Shape,
    pose: Pose,
    intracranial_ml: float,
    visit: Volumes,
    look: Look | None = None,
    body: Body | None = None,
) -> Solution:
    """Solve the unknowns of one visit so that its labels have the drawn volumes (mL), diseases (``look``) included."""
    body = body or sample_body(shape)
    scale = guess_scale(intracranial_ml, body)
    slope = _VENTRICLE_SLOPE
    added = (visit.ventricle_ml / scale**3 - body.ventricle_ml) / slope
    gains, plain = (0.0, 0.0), look is None or not look.weighs
    share = 1.0 if plain else _STEP
    low, high = deformation.ventricle_range_ml()
    for spacing, rounds in zip(_SOLVER_MM, _ROUNDS, strict=True):
        step = max(1, round(spacing / grid.resolution_mm))
        voxel_ml = (step * grid.resolution_mm) ** 3 / 1000
        last: tuple[float, float] | None = None
        off = 0.0
        for _ in range(rounds if plain else 2 * rounds):
            now = Solution(scale, added, *gains)
            seen = render_labels(grid, shape, pose, now, look, step, with_log_odds=True, body=body)
            found = np.bincount(seen.tissue.ravel(), minlength=5) * voxel_ml
            missing = (visit.ventricle_ml - found[LABELS["ventricles"]]) / scale**3
            error = float(intracranial_ml / found[1:].sum())
            if _are_met(found, intracranial_ml, visit):
                break
            near = _are_met(found, intracranial_ml, visit, _NEAR[spacing])
            close = near and (plain or spacing > _SOLVER_MM[-1])
            if last is not None and abs(added - last[0]) > 0.05:
                slope = float(np.clip((last[1] - missing) / (added - last[0]), 0.05, 2.0))
            last = (added, missing)
            added = float(np.clip(added + missing / slope, low, high))
            scale *= float(np.cbrt(error))
            full = _solve_gains(seen, gains, visit, voxel_ml / error)
            before, off = off, _brain_ml(found) / visit.brain_ml - 1
            share = _choose_share(share, before, off)
            gains = (_go(gains[0], full[0], share), _go(gains[1], full[1], share))
            if close:
                break
    return Solution(scale, added, *gains)


def _brain_ml(found_ml: NDArray[np.floating[Any]]) -> float:
    return float(found_ml[LABELS["grey_matter"]] + found_ml[LABELS["white_matter"]])


def _go(before: float, after: float, share: float) -> float:
    return before + share * (after - before)


def _choose_share(share: float, before: float, now: float) -> float:
    """Return the share of the next step of the gains that is gone, given errors of the brain's volume before and now.

    If a step went too far, errors swing about zero, and the secant says how much less would have met it.
    """
    swing = -now / before if before else 0.0
    return max(share / (1 + swing), _LEAST_STEP) if swing > _SWING else share


def _are_met(found_ml: NDArray[np.floating[Any]], intracranial_ml: float, visit: Volumes, times: float = 1.0) -> bool:
    """Return whether volumes are within the solver's tolerances, or so many ``times`` as much."""
    grey, brain = found_ml[LABELS["grey_matter"]], _brain_ml(found_ml)
    return bool(
        abs(found_ml[LABELS["ventricles"]] / visit.ventricle_ml - 1) < 0.004 * times
        and abs(found_ml[1:].sum() / intracranial_ml - 1) < 0.002 * times
        and abs(brain / visit.brain_ml - 1) < 0.002 * times
        and (visit.grey_ml is None or abs(grey / visit.grey_ml - 1) < 0.004 * times)
    )


def _solve_gains(
    seen: render.Rendering, gains: tuple[float, float], visit: Volumes, voxel_ml: float
) -> tuple[float, float]:
    """Return the gains at which as many more voxels are brain, and as many more of these white, as are missing.

    Each is an order statistic of the voxels' mean log-odds, given the other; a few turns settle both. A label is
    that of the mean share, which differs a little, so what is missing is counted on labels and added to what these say.
    """
    inside = (seen.tissue > 0) & (seen.tissue != LABELS["ventricles"])
    white, fluid = seen.log_odds[inside].T
    labels = np.bincount(seen.tissue.ravel(), minlength=5)
    wet = np.maximum(white, 0) <= fluid
    more_wet = labels[LABELS["grey_matter"]] + labels[LABELS["white_matter"]] - visit.brain_ml / voxel_ml
    is_white = white > np.maximum(fluid, 0)
    more_white = (visit.brain_ml - (visit.grey_ml or 0)) / voxel_ml - labels[LABELS["white_matter"]]
    whiter = wetter = np.float32(0)
    for _ in range(4 if visit.grey_ml is not None else 1):
        wetter = _order_statistic(np.maximum(white + whiter, 0) - fluid, wet.sum() + more_wet)
        if visit.grey_ml is not None:
            whiter = _order_statistic(np.maximum(fluid + wetter, 0) - white, is_white.sum() + more_white)
    first, second = gains
    return float(np.clip(first + whiter, *_GAIN_RANGE)), float(np.clip(second + wetter, *_GAIN_RANGE))


def _order_statistic(values: NDArray[np.float32], count: float) -> np.float32:
    """Return the value below which ``count`` of ``values`` lie."""
    place = int(np.clip(round(count), 0, len(values) - 1))
    return np.float32(np.partition(values, place)[place])


def shape_from_json(values: Mapping[str, Any]) -> Shape:
    """Return the Shape stored in a scan's row (the inverse of shape_to_json)."""
    x, y, z = values["stretch"]
    keys = {name: int(value, 16) for name, value in values.items() if name.endswith("_key")}
    return Shape(**{**values, **keys, "stretch": (x, y, z)})


def shape_to_json(shape: Shape) -> dict[str, Any]:
    """Return a Shape as a scan's row stores it: keys as hexadecimal text."""
    return {name: hex(value) if name.endswith("_key") else value for name, value in asdict(shape).items()}
