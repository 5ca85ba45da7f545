"""Static and transmit fields, and echo trains, against the laws they must obey."""

from __future__ import annotations

import math

import numpy as np
import pytest

from synth.physics.effects.blurring import blur_tissue, fill_lines
from synth.physics.effects.distortion import field_hz, field_of_sphere, shift_voxels
from synth.physics.effects.transmit import choose_levels, scale_protocol, transmit_field, weigh_levels
from synth.physics.relaxation import RELAXATION
from synth.physics.sequences import SEQUENCES
from synth.physics.sequences.fast_spin_echo import weigh_echoes
from tests.synth.physics.effects.ellipsoid import SHAPE, phantom


def test_the_field_of_a_sphere_is_a_dipole_that_averages_to_nothing_and_obeys_laplace() -> None:
    pole, equator = (field_of_sphere(np.array(at), 10.0, 9.4) for at in ([0.0, 0.0, 20.0], [20.0, 0.0, 0.0]))
    assert pole == pytest.approx(9.4 / 3 * 0.125 * 2)
    assert equator == pytest.approx(-pole / 2)
    step = 0.05
    around = np.array([[18.0, 7.0, 11.0]] * 7)
    around[1:] += step * np.concatenate([np.eye(3), -np.eye(3)])
    values = field_of_sphere(around, 10.0, 9.4)
    assert abs(values[1:].sum() - 6 * values[0]) / step**2 < 1e-4 * abs(values[0])
    at = np.array([[0.0, 0.0, 20.0]])
    cavity = [(np.zeros(3), 10.0)]
    assert field_hz(at, cavity, 7.0) / field_hz(at, cavity, 3.0) == pytest.approx(7 / 3)


def test_voxels_shift_by_field_over_bandwidth_and_keep_their_signal() -> None:
    volume = phantom()
    np.testing.assert_array_equal(shift_voxels(volume, np.zeros(SHAPE), 1), volume)
    np.testing.assert_allclose(shift_voxels(volume, np.full(SHAPE, 3.0), 1), np.roll(volume, 3, axis=1), atol=1e-6)
    half = shift_voxels(volume, np.full(SHAPE, 0.5), 0)
    np.testing.assert_allclose(half[1:], (volume[1:] + volume[:-1]) / 2, atol=1e-6)
    wild = 3.0 * np.sin(np.arange(SHAPE[1]) / 3.0)[None, :, None]  # folds
    assert shift_voxels(volume, wild, 1).sum() == pytest.approx(volume.sum(), rel=1e-5)
    stretch = 0.25 * (np.arange(SHAPE[1]) - 16)[None, :, None]
    flat = shift_voxels(np.ones(SHAPE, np.float32), stretch, 1)[:, 8:24]
    np.testing.assert_allclose(flat, 1 / 1.25, rtol=1e-5)  # the Jacobian


def test_levels_of_the_transmit_field_mix_to_the_curve_of_the_signal() -> None:
    values = {"level": 1.0, "spread": 0.5, "tilt_x": 0.1, "tilt_y": 0.0, "tilt_z": -0.1}
    place = np.stack(np.meshgrid(*(np.linspace(-80, 80, 9),) * 3, indexing="ij"), axis=-1)
    field = transmit_field(place, values)
    assert field[4, 4, 4] == pytest.approx(1.25)
    assert transmit_field(np.array([75.0, 0.0, 0.0]), {**values, "tilt_x": 0.0}) == pytest.approx(0.75)
    np.testing.assert_allclose(transmit_field(place, {**values, "spread": 0.0}), 1.0)
    levels = choose_levels(field)
    weights = weigh_levels(field, levels)
    np.testing.assert_allclose(weights.sum(axis=-1), 1)
    np.testing.assert_allclose(weights @ levels, field)
    assert (weights > 1e-9).sum(axis=-1).max() <= 2
    tissue = RELAXATION[3.0]["wm"]
    protocol = {"tr_ms": 19.0, "te_ms": 4.0, "flip_angle_deg": 27.0}

    def signal(level: float) -> float:
        return SEQUENCES["T1w"].signal("wm", tissue, scale_protocol(protocol, level)[0])

    mixed = weights @ [signal(level) for level in levels]
    exact = [signal(level) for level in field.ravel()]
    np.testing.assert_allclose(mixed.ravel(), exact, rtol=0.01)


def test_flip_angles_scale_as_each_sequence_uses_them() -> None:
    assert scale_protocol({"flip_angle_deg": 20.0}, 1.2) == ({"flip_angle_deg": 24.0}, 1.0)
    assert scale_protocol({"te_ms": 90.0}, 1.0) == ({"te_ms": 90.0}, 1.0)
    assert scale_protocol({"te_ms": 90.0}, 0.5)[1] == pytest.approx(math.sin(math.pi / 4) ** 3)
    protocol, factor = scale_protocol({"refocus_deg": 180.0}, 0.8)
    assert protocol["refocus_deg"] == pytest.approx(144.0)
    assert factor == pytest.approx(math.sin(math.pi / 2 * 0.8))


def test_an_echo_train_blurs_what_decays_and_keeps_its_sum() -> None:
    point = np.zeros((1, 128, 1), np.float32)
    point[0, 64, 0] = 1.0
    peaks = []
    for t2_ms in (1e9, 300.0, 60.0):
        echoes = np.exp(-10.0 * (np.arange(16) - 4) / t2_ms)
        weights = fill_lines(128, echoes, 4)
        assert weights[0] == pytest.approx(1.0)
        assert set(np.round(weights, 5)) == set(np.round(echoes.astype(np.float32), 5))
        seen = blur_tissue(point, weights, 1)
        assert seen.sum() == pytest.approx(1.0, abs=1e-5)
        peaks.append(float(seen[0, 64, 0]))
    assert peaks[0] == pytest.approx(1.0, abs=1e-5)
    assert peaks == sorted(peaks, reverse=True)
    tissue = RELAXATION[3.0]["wm"]
    protocol = {"tr_ms": 5000.0, "te_ms": 90.0, "echo_spacing_ms": 10.0, "echoes": 12.0, "refocus_deg": 180.0}
    np.testing.assert_allclose(weigh_echoes(tissue, protocol), np.exp(-10.0 * (np.arange(12) - 8) / tissue.t2_ms))
