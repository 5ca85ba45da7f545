"""Thick slices: profile, place and labels."""

from __future__ import annotations

import numpy as np
import pytest

from synth.physics.effects.base import along
from synth.physics.effects.slices import average_slices, plan_slices, slice_affine, slice_profile, vote_slices

THICK = {"thickness_mm": 5.0, "gap_mm": 1.0, "axis": 2.0, "edge": 0.1}


def test_the_slice_profile_has_its_thickness_at_half_height_and_in_its_integral() -> None:
    z = np.linspace(-10, 10, 4001)
    profile = slice_profile(z, 5.0, 0.1)
    assert profile.sum() * (z[1] - z[0]) == pytest.approx(5.0, rel=1e-3)
    assert np.ptp(z[profile >= 0.5 * profile.max()]) == pytest.approx(5.0, abs=0.02)
    np.testing.assert_allclose(profile, profile[::-1], atol=1e-12)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_average_and_lie_where_their_affine_says(axis: int) -> None:
    slices = plan_slices((48, 60, 44), 1.0, {**THICK, "axis": axis})
    np.testing.assert_allclose(average_slices(np.ones((48, 60, 44), np.float32), slices), 1, rtol=1e-5)
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    affine[:3, 3] = (-20.0, -30.0, -10.0)
    ramp = np.broadcast_to(along(affine[axis, 3] + np.arange((48, 60, 44)[axis]), axis), (48, 60, 44))
    seen = average_slices(ramp.astype(np.float32), slices)
    changed = slice_affine(affine, slices)
    wanted = changed[axis, 3] + changed[axis, axis] * np.arange(seen.shape[axis])
    np.testing.assert_allclose(
        np.moveaxis(seen, axis, -1), np.broadcast_to(wanted, np.moveaxis(seen, axis, -1).shape), atol=0.04
    )
    assert changed[axis, axis] == pytest.approx(6.0)
    assert seen.shape[axis] == (48, 60, 44)[axis] // 6


def test_thick_voxels_carry_the_label_that_fills_them() -> None:
    tissue = np.zeros((2, 2, 12), np.uint8)
    tissue[:, :, :7], tissue[:, :, 7:] = 2, 3
    lesion = np.zeros((2, 2, 12), np.uint8)
    lesion[0, 0, 6:] = lesion[0, 1, 2] = 1
    voted, pure = vote_slices({"tissue": tissue, "lesion": lesion}, plan_slices((2, 2, 12), 1.0, THICK))
    assert voted["tissue"][0, 0].tolist() == [2, 3]
    assert voted["lesion"][0, 0].tolist() == [0, 1]
    assert not voted["lesion"][1].any()
    assert pure[1, 1].tolist() == [True, False]  # the second slice has a voxel of the other tissue
    assert pure[0, 1].tolist() == [False, False]  # and here the first has a lesion
