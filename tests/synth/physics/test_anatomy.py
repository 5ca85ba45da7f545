"""Heads: invertible mappings, and volumes that are met on the delivered labels."""

from __future__ import annotations

import functools
import itertools
import json
import math
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from synth.nouns import Subject, Visit
from synth.physics import anatomy, lesions, render
from synth.physics.grid import LABELS, NODE_SPACING_MM, Grid
from synth.physics.illness import draw_diseases, follow_diseases, solve_illness
from synth.physics.individual import sample_person
from synth.physics.lesions import LESION_COLUMNS, no_lesions
from synth.physics.look import combine_looks
from synth.physics.render import render_volumes
from synth.physics.template import load_template
from synth.population.volumes import BRAIN_FRACTION, FILLED_FRACTION, VENTRICLE_RANGE_ML, VENTRICLE_SPACE
from synth.seeds import stream, stream_key

GRID = Grid(2.0)
SEED = 11


@functools.cache
def shape_of(number: int) -> anatomy.Shape:
    keys = (stream_key(SEED, number, -1, name) for name in ("velocity", "tissue"))
    return anatomy.draw_shape(stream(SEED, number, -1, "shape"), *keys)


def pose_of(number: int, visit: int = 0) -> anatomy.Pose:
    return anatomy.draw_pose(stream(SEED, number, visit, "pose"))


def evaluate_bspline(nodes: NDArray[np.float64], grid: Grid) -> NDArray[np.float64]:
    """Evaluate the nodes at every voxel, axis by axis in float64; an implementation apart from the kernel's."""
    for axis, count in enumerate(grid.shape):
        position = np.arange(count) * grid.resolution_mm / NODE_SPACING_MM
        base = position.astype(int)
        t = position - base
        matrix = np.zeros((count, nodes.shape[axis]))
        taps = ((1 - t) ** 3 / 6, (3 * t**3 - 6 * t**2 + 4) / 6, (1 + 3 * t + 3 * t**2 - 3 * t**3) / 6, t**3 / 6)
        for offset, weight in enumerate(taps):
            matrix[np.arange(count), base + offset] = weight
        nodes = np.moveaxis(np.tensordot(matrix, nodes, (1, axis)), 0, axis)
    return nodes


def jacobian(mapping: NDArray[np.float64], spacing_mm: float) -> NDArray[np.float64]:
    columns = [np.stack(np.gradient(mapping[..., axis], spacing_mm), axis=-1) for axis in range(3)]
    return np.linalg.det(np.stack(columns, axis=-2))


@pytest.mark.parametrize("number", range(20))
def test_the_mapping_of_every_head_is_invertible(number: int) -> None:
    """The Jacobian determinant of the B-spline mapping itself stays positive, even with the largest ventricles."""
    added_ml, least = [(-150.0, 0.3), (0.0, 0.3), (110.0, 0.02), (400.0, 0.0)][number % 4]
    nodes = anatomy.template_coordinates(GRID, shape_of(number), pose_of(number), 0.9, added_ml)
    head = render_volumes(GRID, sample_person(1), nodes, (0.0, 0.0), no_lesions()).tissue > 0
    change = jacobian(evaluate_bspline(nodes, GRID), GRID.resolution_mm)
    assert head.sum() * 0.008 > 1000
    assert change[head].min() > least
    assert np.median(change[head]) == pytest.approx(0.9**-3, rel=0.12)


def test_shapes_and_poses_stay_within_their_bounds() -> None:
    for number in range(300):
        shape, pose = shape_of(number), pose_of(number)
        assert math.prod(shape.stretch) == pytest.approx(1)
        assert min(shape.stretch) > 0.9
        assert max(shape.stretch) < 1.1
        assert max(abs(angle) for angle in pose.rotation_deg) <= 6
        assert max(abs(shift) for shift in pose.shift_mm) <= 3


def test_a_shape_survives_its_row() -> None:
    shape = shape_of(4)
    row = json.loads(json.dumps(anatomy.shape_to_json(shape)))
    assert anatomy.shape_from_json(row) == shape
    assert all(isinstance(value, str) for name, value in row.items() if name.endswith("_key"))


# ----------------------------------------------------------------------------------------------------- solved volumes


@dataclass(frozen=True)
class Target:
    intracranial_ml: float
    brain_share: float
    ventricle_ml: float
    lesion_ml: float = 0.0
    grey_share: float | None = None  # of the brain

    @property
    def visit(self) -> anatomy.Volumes:
        brain_ml = self.brain_share * self.intracranial_ml
        grey_ml = None if self.grey_share is None else self.grey_share * brain_ml
        return anatomy.Volumes(brain_ml, self.ventricle_ml, grey_ml)


@dataclass(frozen=True)
class Solved:
    solution: anatomy.Solution
    seen: render.Rendering
    voxel_ml: float
    lesions: int

    def volume_ml(self, *labels: str) -> float:
        counts = np.bincount(self.seen.tissue.ravel(), minlength=5)
        return float(sum(counts[LABELS[label]] for label in labels)) * self.voxel_ml


def solve(number: int, target: Target, grid: Grid = GRID, visits: tuple[float, ...] = ()) -> Solved:
    """Solve the last of some visits of a head; ``visits`` are the lesion loads of those before."""
    shape, pose = shape_of(number), pose_of(number)
    loads = (*visits, target.lesion_ml)
    seen = tuple(Visit(n, float(n), 50.0 + n, 0.0, 0.0, load) for n, load in enumerate(loads))
    someone = Subject("s", "c", number, 50.0, "F", None, target.intracranial_ml, "", "", 3.0, 1.0, seen)
    ailments = follow_diseases(draw_diseases(SEED, someone), someone, seen[-1])
    solution, ailments = solve_illness(grid, shape, pose, target.intracranial_ml, target.visit, ailments)
    look = combine_looks(one.look for one in ailments)
    labels = anatomy.render_labels(grid, shape, pose, solution, look)
    return Solved(solution, labels, grid.resolution_mm**3 / 1000, sum(one.state["counts"][-1] for one in ailments))


def assert_met(solved: Solved, target: Target) -> None:
    """The tolerances are those of synth.measure, written again so that loosening them there does not hide here."""
    brain = target.brain_share * target.intracranial_ml
    inside = solved.volume_ml("csf", "grey_matter", "white_matter", "ventricles")
    assert inside == pytest.approx(target.intracranial_ml, rel=0.01)
    assert solved.volume_ml("grey_matter", "white_matter") == pytest.approx(brain, rel=0.01)
    if target.grey_share is not None:
        assert solved.volume_ml("grey_matter") == pytest.approx(target.grey_share * brain, rel=0.02)
        assert solved.volume_ml("white_matter") == pytest.approx((1 - target.grey_share) * brain, rel=0.02)
    assert abs(solved.volume_ml("ventricles") - target.ventricle_ml) <= 0.03 * target.ventricle_ml + 0.3
    lesion_ml = float((solved.seen.lesion > 0).sum()) * solved.voxel_ml
    assert abs(lesion_ml - target.lesion_ml) <= 0.05 * target.lesion_ml + 0.05


EXTREMES = [
    Target(icv, share, ventricle, 0.0, (None, 0.49, 0.556, 0.62)[round(icv + ventricle) % 4])
    for icv in (1120, 1450, 1950)
    for share in (BRAIN_FRACTION[0], 0.75, BRAIN_FRACTION[1])
    for ventricle in (5, 30, 80, 120 if icv > 1200 else 105)
    if share * icv + VENTRICLE_SPACE * ventricle <= FILLED_FRACTION * icv
]
LESIONS = [Target(1450, 0.75, 25, ml, 0.55) for ml in (0.5, 2, 10, 30, 60)] + [
    Target(1120, 0.7, 100, 50),
    Target(1950, 0.86, 5, 60),
    Target(1450, 0.55, 60, 0.5),
]


@pytest.mark.parametrize(("number", "target"), list(enumerate(EXTREMES + LESIONS)), ids=str)
def test_the_labels_have_the_volumes_that_were_drawn(number: int, target: Target) -> None:
    assert_met(solve(number // 8, target), target)


def test_the_extremes_are_those_of_the_population() -> None:
    assert {t.ventricle_ml for t in EXTREMES} >= set(VENTRICLE_RANGE_ML)
    assert {t.brain_share for t in EXTREMES} >= set(BRAIN_FRACTION)


def test_volumes_are_met_at_1_mm_too() -> None:
    target = Target(1949, 0.65, 110, 40, 0.57)
    assert_met(solve(3, target, Grid(1.0)), target)


# ------------------------------------------------------------------------------------------------------------ lesions


def test_without_a_load_there_is_no_lesion() -> None:
    solved = solve(1, Target(1450, 0.75, 25))
    assert solved.lesions == 0
    assert not solved.seen.lesion.any()


def test_follow_up_visits_keep_the_lesions_of_earlier_ones() -> None:
    for number in range(3):
        loads = (3.0, 5.0, 8.0, 14.0)
        solved = [solve(number, Target(1450, 0.75, 25, ml), visits=loads[:n]) for n, ml in enumerate(loads)]
        counts = [s.lesions for s in solved]
        assert counts == sorted(set(counts))
        for before, after in itertools.pairwise(solved):
            old, new = before.seen.lesion.astype(bool), after.seen.lesion.astype(bool)
            assert (old & new).sum() >= 0.85 * old.sum()  # young ones shrink


def test_lesions_lie_in_white_matter_and_prefer_the_ventricles() -> None:
    solved = solve(2, Target(1450, 0.75, 25, 20))
    assert np.isin(solved.seen.tissue[solved.seen.lesion > 0], [LABELS["white_matter"]]).all()
    table = lesions.draw_lesions(stream(1, 0, -1, "lesions"))
    assert table.shape == (lesions.MAX_LESIONS, LESION_COLUMNS)
    volumes = 4 / 3 * np.pi / np.prod(table[:, 3:6].astype(float), axis=1) / 1000
    assert np.median(volumes) == pytest.approx(0.07, rel=0.25)
    assert volumes.max() < 6.1
    template = load_template()
    fluid = np.argwhere(template.fractions[..., 3] > 127)[::5]
    drawn = np.array([np.linalg.norm(fluid - row[:3], axis=1).min() for row in table])
    white = np.argwhere(template.fractions[..., 1] > 200)[::4001]
    anywhere = np.array([np.linalg.norm(fluid - place, axis=1).min() for place in white])
    assert np.median(drawn) < 0.5 * np.median(anywhere)


def test_lesion_counts_grow_with_the_load() -> None:
    table = lesions.draw_lesions(stream(1, 1, -1, "lesions"))
    counts = [lesions.count_lesions(table, load, 0.7) for load in (0, 0.5, 1, 4, 10, 1e6)]
    assert counts == sorted(counts)
    assert counts[0] == 0
    assert counts[-1] == lesions.MAX_LESIONS
    bigger = lesions.scale_lesions(table, 2.0)
    np.testing.assert_allclose(bigger[:, 3:6] * 2, table[:, 3:6])
    assert lesions.count_lesions(bigger, 4, 0.7) < lesions.count_lesions(table, 4, 0.7)
