"""Velocity fields: inverses, conservation of what a source pushes out, look-up against scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from synth.physics import deformation
from synth.physics.template import VENTRICLE, load_fractions
from synth.seeds import stream


@pytest.mark.parametrize(("scale_mm", "amplitude_mm"), [(28.0, 2.8), (13.0, 1.3)])
def test_the_backward_flow_undoes_the_forward_one(scale_mm: float, amplitude_mm: float) -> None:
    velocity = deformation.draw_velocity(stream(3, 0, -1, "test"), scale_mm, amplitude_mm)
    assert np.sqrt(np.mean(velocity**2)) == pytest.approx(amplitude_mm)
    forward, backward = deformation.integrate_velocity(velocity), deformation.integrate_velocity(-velocity)
    left = deformation.compose_fields(backward, forward)[3:-3, 3:-3, 3:-3]  # the grid ends beyond that
    assert np.abs(forward).max() > 4
    assert np.abs(left).max() < 0.4
    assert np.sqrt(np.mean(left**2)) < 0.06


def test_composition_is_the_displacement_of_the_composed_maps() -> None:
    """Two small rotations about the same axis: the sum of their angles, exactly linear fields."""
    position = deformation.node_positions_mm()

    def rotation(angle: float) -> deformation.Field:
        c, s = math.cos(angle), math.sin(angle)
        return position @ np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]]) - position

    found = deformation.compose_fields(rotation(0.03), rotation(0.02))
    inner = (slice(5, -5),) * 3
    np.testing.assert_allclose(found[inner], rotation(0.05)[inner], atol=1e-9)


def test_fields_are_looked_up_as_scipy_does() -> None:
    rng = stream(4, 0, 0, "test")
    field = rng.standard_normal((*deformation.GRID_SHAPE, 3))
    extent = (np.asarray(deformation.GRID_SHAPE) - 1) * deformation.NODE_MM
    place = deformation.GRID_LOW_MM + rng.uniform(-0.05, 1.05, (500, 3)) * extent
    index = ((place - deformation.GRID_LOW_MM) / deformation.NODE_MM).T
    expected = [ndimage.map_coordinates(field[..., a], index, order=1, mode="nearest") for a in range(3)]
    np.testing.assert_allclose(deformation.interpolate_field(field, place), np.stack(expected, -1), atol=1e-5)


@pytest.mark.parametrize("added_ml", [-40.0, 20.0, 60.0, 120.0])
def test_a_source_pushes_its_volume_through_any_surface_around_it(added_ml: float) -> None:
    """Template tissue that was in a ball around the ventricles takes up that much more room in the image."""
    axis, centre, radius = np.arange(-90.0, 90.0, 2.0), np.array([0, -15, 12.0]), 50.0
    image = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1)
    template = image + deformation.interpolate_field(deformation.ventricle_field(added_ml), image)

    def ball_ml(place: NDArray[np.float64]) -> float:
        return float((((place - centre) ** 2).sum(axis=-1) < radius**2).sum()) * 8 / 1000

    pushed_ml = ball_ml(template) - 4 / 3 * math.pi * radius**3 / 1000
    assert pushed_ml == pytest.approx(added_ml, rel=0.08)  # 4 % of it sinks evenly into the ball


def test_no_source_is_no_field_and_the_range_holds_the_request() -> None:
    assert not deformation.ventricle_field(0.0).any()
    low, high = deformation.ventricle_range_ml()
    assert low < -100
    assert high == 400
    for beyond, bound in ((low - 5, low), (high + 5, high)):
        np.testing.assert_allclose(
            deformation.ventricle_field(beyond), deformation.ventricle_field(bound), rtol=0, atol=1e-4
        )


def test_the_source_lies_in_the_ventricles() -> None:
    """Around it template points are drawn from nearer the ventricles, the further from them the less."""
    maps, origin = load_fractions()
    field = deformation.ventricle_field(40.0)
    size = np.linalg.norm(field, axis=-1)
    index = np.rint(deformation.node_positions_mm() - origin).astype(int)
    shape = np.asarray(maps.shape[1:])
    held = np.all((index >= 0) & (index < shape), axis=-1)
    distance = ndimage.distance_transform_edt(maps[VENTRICLE] < 0.5)[tuple(index[held].T)]
    near, far = size[held][(distance > 2) & (distance < 12)], size[held][distance > 60]
    assert near.mean() > 4 * far.mean()
    assert size.max() < 15
