"""What is done to lines of k-space, against the laws it must obey."""

from __future__ import annotations

import numpy as np
import pytest

from synth.physics.effects.base import Encoding, along, line_numbers
from synth.physics.effects.lines import add_spikes, cut_lines, modulate_lines, skip_lines, truncate
from tests.synth.physics.effects.ellipsoid import SHAPE, THREE, image, phantom, transform


def test_truncation_rings_by_the_constant_of_wilbraham_and_gibbs() -> None:
    step = np.zeros((4096, 1, 1), np.float32)
    step[1024:3072] = 1.0
    seen = image(truncate(transform(step), {"share": 0.05}, Encoding((0,), 0))).real.ravel()
    overshoot = float(np.max(seen)) - 1
    assert overshoot == pytest.approx(0.08949, abs=0.003)  # Si(pi)/pi - 1/2
    assert -float(np.min(seen)) == pytest.approx(0.08949, abs=0.003)
    np.testing.assert_allclose(seen.sum(), step.sum(), rtol=1e-5)


def test_truncation_to_all_of_k_space_changes_nothing_and_twice_is_once() -> None:
    k = transform(phantom())
    np.testing.assert_array_equal(truncate(k, {"share": 1.0}, THREE), k)
    once = truncate(k, {"share": 0.6}, THREE)
    np.testing.assert_array_equal(truncate(once, {"share": 0.6}, THREE), once)


@pytest.mark.parametrize("share", [0.55, 0.7, 0.9])
def test_partial_fourier_of_a_real_image_filters_it_by_the_even_part_of_its_window(share: float) -> None:
    """The real part of a zero-filled image is the image filtered by (w(k) + w(-k)) / 2."""
    object_ = phantom()
    k = transform(object_)
    cut = cut_lines(k, {"share": share}, THREE)
    numbers = line_numbers(SHAPE[1])
    kept = np.abs(cut).sum(axis=(0, 2)) > 0
    assert kept.sum() == pytest.approx(share * SHAPE[1], abs=1)
    assert kept[numbers >= 0].all()
    even = (kept.astype(float) + kept[-np.arange(SHAPE[1])]) / 2
    even[numbers == -SHAPE[1] // 2] = kept[numbers == -SHAPE[1] // 2]
    wanted = image(k * along(even, 1)).real
    np.testing.assert_allclose(image(cut).real, wanted, atol=2e-6)


@pytest.mark.parametrize("acceleration", [2, 4])
def test_undersampling_without_a_centre_folds_the_image(acceleration: int) -> None:
    values = {"acceleration": acceleration, "centre_share": 0.0, "sense": 0.0}
    seen = image(skip_lines(transform(phantom()), values, THREE))
    period = SHAPE[1] // acceleration
    folded = sum(np.roll(phantom(), n * period, axis=1) for n in range(acceleration))
    np.testing.assert_allclose(seen.real, folded, atol=1e-5)
    np.testing.assert_allclose(seen.imag, 0, atol=1e-5)


def test_a_full_centre_weakens_folding_and_all_of_it_is_the_image() -> None:
    errors = []
    for centre in (0.0, 0.2, 1.1):
        values = {"acceleration": 2, "centre_share": centre, "sense": 0.0}
        errors.append(float(np.abs(image(skip_lines(transform(phantom()), values, THREE)) - phantom()).mean()))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-6


@pytest.mark.parametrize("every", [2, 4])
def test_ghosts_are_shifted_copies_of_amplitude_over_n(every: int) -> None:
    seen = image(modulate_lines(transform(phantom()), {"every": every, "amplitude": 0.3}, THREE))
    wanted = (1 - 0.3 / every) * phantom().astype(complex)
    for number in range(1, every):
        turn = np.exp(2j * np.pi * number * (every // 2) / every)
        wanted -= 0.3 / every * turn * np.roll(phantom(), number * SHAPE[1] // every, axis=1)
    np.testing.assert_allclose(np.abs(seen), np.abs(wanted), atol=1e-5)


def test_a_spike_is_a_plane_wave_of_constant_size() -> None:
    k = transform(phantom())
    values = {"amplitude": 0.4, "count": 1, "places": [[0.25, -0.125, 0.1, 0.3]]}
    wave = image(add_spikes(k, values, THREE)) - image(k)
    np.testing.assert_allclose(np.abs(wave), 0.4 * phantom().mean(), rtol=1e-4)
    step = wave[1:, 0, 0] / wave[:-1, 0, 0]
    np.testing.assert_allclose(step, np.exp(2j * np.pi * 0.25), rtol=1e-3)
