"""Coils: sensitivities, SENSE and noise, against the laws they must obey."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from synth.physics.effects.chain import apply_effects
from synth.physics.effects.coils import Unfolding, make_sensitivities
from synth.physics.effects.lines import skip_lines
from synth.seeds import stream
from tests.synth.physics.effects.ellipsoid import SHAPE, THREE, image, phantom, scene, transform


def positions(shape: tuple[int, ...] = SHAPE) -> list[NDArray[np.float64]]:
    return [(np.arange(n) - (n - 1) / 2) * 8.0 for n in shape]


def test_sensitivities_are_normalised_and_each_coil_sees_its_side() -> None:
    coils = list(make_sensitivities(positions(), 8, 0.1))
    np.testing.assert_allclose(sum(np.abs(coil) ** 2 for coil in coils), 1, atol=1e-5)
    assert len(coils) == 8
    place = np.unravel_index(np.abs(coils[0]).argmax(), SHAPE)
    angle = math.atan2(positions()[1][place[1]], positions()[0][place[0]])
    assert angle == pytest.approx(2 * math.pi * 0.1, abs=0.4)


@pytest.mark.parametrize("acceleration", [2, 4])
def test_sense_gives_the_image_back_without_noise_and_g_times_root_r_of_it_with(acceleration: int) -> None:
    shape = (6, 16, 4)
    coils = list(make_sensitivities(positions(shape), 8, 0.05))
    object_ = np.linspace(0.5, 1.5, 6 * 16 * 4).reshape(shape).astype(np.float32)
    values = {"acceleration": acceleration, "centre_share": 0.1, "sense": 1.0}

    def unfold(sigma: float, number: int) -> tuple[NDArray[np.complex64], Unfolding]:
        generator = stream(5, number, 0, "sense")
        unfolding = Unfolding(shape, acceleration, 1)
        for coil in coils:
            noise = generator.standard_normal((2, *shape)) * sigma
            k = transform(object_ * coil) + noise[0] + 1j * noise[1]
            unfolding.add(coil, image(skip_lines(np.asarray(k, np.complex64), values, THREE)))
        return unfolding.solve(), unfolding

    exact, unfolding = unfold(0.0, 0)
    np.testing.assert_allclose(exact, object_, atol=2e-4)
    g = unfolding.g_factor()
    assert g.min() > 0.999
    deviations = np.stack([unfold(0.01, number)[0] - object_ for number in range(200)])
    seen = np.sqrt((np.abs(deviations) ** 2).mean(axis=0) / 2) / 0.01
    np.testing.assert_allclose(np.median(seen / (g * math.sqrt(acceleration))), 1, atol=0.03)
    np.testing.assert_allclose(seen, g * math.sqrt(acceleration), rtol=0.3)


@pytest.mark.parametrize("count", [1, 4, 12])
def test_noise_of_combined_coils_is_non_central_chi(count: int) -> None:
    """Second moment S^2 + 2 n sigma^2; the mean in air is sigma sqrt(pi/2) (2n - 1)!! / (2^(n-1) (n - 1)!)."""
    effects = {"coils": {"count": count, "turn": 0.2}}
    signal = np.full(SHAPE, 0.5, np.float32)
    seen = apply_effects(signal, effects, scene(0.1))
    assert (seen.astype(float) ** 2).mean() == pytest.approx(0.25 + 2 * count * 0.01, rel=0.02)
    air = apply_effects(np.zeros(SHAPE, np.float32), effects, scene(0.1))
    mean = math.sqrt(math.pi / 2) * math.prod(range(1, 2 * count, 2)) / (2 ** (count - 1) * math.factorial(count - 1))
    assert air.mean() == pytest.approx(0.1 * mean, rel=0.01)


def test_noise_in_k_space_is_the_same_noise_in_the_image() -> None:
    """An operator that does nothing makes the chain take the way through k-space: moments stay."""
    nothing = {"gibbs": {"share": 1.0}}
    air = [apply_effects(np.zeros(SHAPE, np.float32), effects, scene(0.1)) for effects in ({}, nothing)]
    assert air[0].std() == pytest.approx(air[1].std(), rel=0.02)
    assert air[0].mean() == pytest.approx(0.1 * math.sqrt(math.pi / 2), rel=0.01)
    np.testing.assert_allclose(apply_effects(phantom(), nothing, scene()), phantom(), atol=1e-5)
