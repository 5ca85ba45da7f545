"""The sliced Wasserstein distance: exact on a line, analytic for a shift, in standard deviations of the real side."""

from __future__ import annotations

import math

import numpy as np
import pytest

from synth.evaluation.images.quality.sliced import find_scale, measure_sliced
from synth.evaluation.images.sides import Side
from synth.seeds import stream
from tests.synth.evaluation.images.gaussians import draw_side


def draw_normal(count: int, seed: int, shift: float = 0.0, dimensions: int = 6) -> Side:
    rng = stream(seed, -1, -1, "test/sliced")
    return Side((rng.standard_normal((count, dimensions)) + shift).astype(np.float32), np.arange(count))


def own_patients(features: np.ndarray) -> Side:
    return Side(features.astype(np.float32), np.arange(len(features)))


@pytest.mark.parametrize(("n", "m"), [(40, 40), (30, 45), (7, 64)])
def test_on_a_line_it_is_the_distance_of_quantiles(n: int, m: int) -> None:
    first, second = draw_normal(n, 1, 0.4, 1), draw_normal(m, 2, 0.0, 1)
    many = math.lcm(n, m)
    moved = [np.sort(np.repeat(side.features[:, 0], many // len(side))).astype(np.float64) for side in (first, second)]
    wanted = math.sqrt(((moved[0] - moved[1]) ** 2).mean()) / second.features.std()
    assert measure_sliced(first, second, seed=0)[1]["biased"] == pytest.approx(wanted, rel=1e-5)


def test_a_shift_is_found_whatever_the_unit() -> None:
    real = draw_normal(400, 3)
    shift = np.array([1, 0, 0, 0, 0, 0], np.float32) * real.features.std(axis=0)
    for factor in (1e-3, 1, 1e5):
        moved = Side((real.features + shift) * np.float32(factor), real.patient)
        _, detail = measure_sliced(moved, Side(real.features * np.float32(factor), real.patient), seed=0)
        assert detail["biased"] == pytest.approx(1 / math.sqrt(6), rel=0.1)  # 256 directions


def test_repeated_images_change_nothing_but_the_interval() -> None:
    first, second = draw_side(50, 4), draw_side(60, 5)
    twice = Side(np.repeat(first.features, 2, axis=0), np.repeat(first.patient, 2))
    assert measure_sliced(twice, second, 0)[1]["biased"] == pytest.approx(
        measure_sliced(first, second, 0)[1]["biased"], rel=1e-5
    )


def test_features_that_do_not_vary() -> None:
    rng = stream(6, -1, -1, "test/sliced")
    real, synthetic = rng.standard_normal((80, 3)), rng.standard_normal((80, 3))
    real[:, 0] = 5.0
    scale = find_scale(synthetic.astype(np.float32), real.astype(np.float32))
    assert scale[0] == pytest.approx(np.concatenate([synthetic, real])[:, 0].std(), rel=1e-4)
    real[:, 0] = synthetic[:, 0] = 5.0
    assert find_scale(synthetic.astype(np.float32), real.astype(np.float32))[0] == 1
    interval, _ = measure_sliced(own_patients(synthetic), own_patients(real), seed=0)
    assert np.isfinite(interval).all()


@pytest.mark.parametrize(("shift", "truth"), [(0.0, 0.0), (0.4, 0.4)])
def test_extrapolation_takes_the_bias_away_and_intervals_hold_the_truth(shift: float, truth: float) -> None:
    """A shift s in each of d equal directions has the distance s: the mean of (s 1.u)^2 over directions u is s^2."""
    rows = []
    for draw in range(40):
        sides = draw_normal(90, 2 * draw, shift), draw_normal(110, 2 * draw + 1)
        (value, low, high), detail = measure_sliced(*sides, seed=draw)
        assert 0 <= low <= value <= high
        rows.append((detail["biased"] ** 2, value**2, low <= truth <= high))
    biased, extrapolated, covered = np.mean(rows, axis=0)
    assert abs(extrapolated - truth**2) < 0.5 * (biased - truth**2)
    assert covered > 0.85
