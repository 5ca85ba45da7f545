"""Movements between lines, against the laws they must obey."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from synth.physics.effects.base import along, line_numbers
from synth.physics.effects.chain import apply_effects
from synth.physics.effects.motion import list_poses, move_volume
from tests.synth.physics.effects.ellipsoid import SHAPE, STILL, image, phantom, scene, transform


def move(poses: list[list[float]]) -> NDArray[np.float32]:
    return apply_effects(phantom(), {"motion": {"poses": poses}}, scene())


def test_no_movement_changes_nothing_and_the_centre_of_k_space_stays() -> None:
    np.testing.assert_allclose(move([[0.3, *STILL, *STILL], [0.8, *STILL, *STILL]]), phantom(), atol=1e-5)
    poses = list_poses({"poses": [[0.2, 1, 2, 3, 4, 5, 6], [0.4, 2, 2, 2, 2, 2, 2], [0.7, 0, 0, 0, 1, 0, 0]]})
    assert [time for time, _ in poses] == [0.0, 0.2, 0.4, 0.7]
    assert poses[2][1] == (0.0,) * 6
    assert poses[1][1] == (-1, 0, 1, 2, 3, 4)


def test_a_movement_before_the_first_line_moves_nothing_and_a_late_one_little() -> None:
    """Movements are relative to the centre of k-space: only lines on the other side of the event see another pose."""
    far = [0.0, 0.0, 0.0, 16.0, 8.0, 0.0]
    errors = [float(np.abs(move([[time, *far]]) - phantom()).mean()) for time in (0.0, 0.05, 0.45, 0.55, 0.98)]
    assert errors[0] < 1e-5
    assert errors[1] < errors[2]
    assert errors[4] < errors[3]


def test_shifts_keep_the_energy_and_follow_the_shift_theorem() -> None:
    moved = move([[0.55, *STILL, 16.0, 0.0, 0.0]])
    assert (moved.astype(float) ** 2).sum() == pytest.approx((phantom().astype(float) ** 2).sum(), rel=1e-4)
    late = line_numbers(SHAPE[1]) >= math.ceil(0.55 * SHAPE[1]) - SHAPE[1] // 2
    parts = [transform(np.roll(phantom(), shift, axis=0)) * along(lines, 1) for shift, lines in ((0, ~late), (2, late))]
    np.testing.assert_allclose(moved, np.abs(image(parts[0] + parts[1])), atol=1e-5)


def test_turning_by_a_right_angle_is_a_rotation_of_the_array() -> None:
    cube = np.zeros((9, 9, 9), np.float32)
    cube[6, 4, 4] = 1.0
    turned = move_volume(cube, (2.0, 2.0, 2.0), (0.0, 0.0, 90.0, 0, 0, 0))
    assert np.unravel_index(turned.argmax(), cube.shape) == (4, 6, 4)
    assert turned.sum() == pytest.approx(1.0, abs=1e-5)
