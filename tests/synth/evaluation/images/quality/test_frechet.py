"""The Frechet distance: analytic Gaussians, the usual formula, and less bias than it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import linalg
from torchmetrics.image.fid import _compute_fid

from synth.evaluation.images.quality.frechet import (
    find_directions,
    find_moments,
    gaussian_distance,
    measure_frechet,
)
from synth.evaluation.images.sides import Side
from synth.seeds import stream
from tests.synth.evaluation.images.gaussians import draw_side


def draw_normal(count: int, seed: int, shift: float = 0.0, spread: float = 1.0, dimensions: int = 8) -> Side:
    rng = stream(seed, -1, -1, "test/frechet")
    features = spread * rng.standard_normal((count, dimensions)) + shift
    return Side(features.astype(np.float32), np.arange(count))


def draw_covariance(dimensions: int, seed: int, rank: int | None = None) -> np.ndarray:
    root = stream(seed, -1, -1, "test/frechet/covariance").standard_normal((dimensions, rank or 2 * dimensions))
    return root @ root.T / dimensions


def test_gaussians_with_known_distances() -> None:
    nothing, unit = np.zeros(3), np.eye(3)
    assert gaussian_distance((nothing, unit), (nothing, unit)) == pytest.approx(0, abs=1e-12)
    assert gaussian_distance((nothing, unit), (nothing + 2, unit)) == pytest.approx(12)
    assert gaussian_distance((nothing, np.diag([1.0, 4, 9])), (nothing, np.diag([4.0, 4, 1]))) == pytest.approx(1 + 4)
    assert gaussian_distance((nothing, 0 * unit), (nothing, 4 * unit)) == pytest.approx(12)
    assert gaussian_distance((nothing, 0 * unit), (nothing + 1, 0 * unit)) == pytest.approx(3)


@pytest.mark.parametrize("rank", [None, 5, 1])
def test_distance_is_that_of_matrix_roots_and_symmetric(rank: int | None) -> None:
    one, other = draw_covariance(20, 1), draw_covariance(20, 2, rank)
    root = linalg.sqrtm(one)
    wanted = (
        np.trace(one) + np.trace(other) - 2 * np.trace(linalg.sqrtm(root @ (other + 1e-13 * np.eye(20)) @ root)).real
    )
    zero = np.zeros(20)
    for pair in ((one, other), (other, one)):
        assert gaussian_distance((zero, pair[0]), (zero, pair[1])) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_biased_distance_is_that_of_torchmetrics(seed: int) -> None:
    sides = draw_side(300, seed), draw_side(260, seed + 50)
    moments = [torch.from_numpy(part) for side in sides for part in find_moments(side.features).gaussian()]
    theirs = float(_compute_fid(*moments))
    assert measure_frechet(*sides, seed=0)[1]["biased"] == pytest.approx(theirs, rel=1e-4)
    assert np.allclose(moments[1], np.cov(sides[0].features, rowvar=False, dtype=np.float64))


def test_moments_of_parts_add_up() -> None:
    features = draw_side(100, 5).features
    half = np.arange(len(features)) % 3 == 0
    rest = find_moments(features).without(find_moments(features, half))
    mean, covariance = rest.gaussian()
    np.testing.assert_allclose(mean, features[~half].mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(covariance, np.cov(features[~half], rowvar=False), atol=1e-5)


@pytest.mark.parametrize(("shift", "spread", "truth"), [(0.0, 1.0, 0.0), (0.5, 1.0, 2.0), (0.3, 1.3, 8 * 0.18)])
def test_extrapolation_takes_the_bias_away_and_intervals_hold_the_truth(shift, spread, truth) -> None:
    rows = []
    for draw in range(60):
        sides = draw_normal(100, 2 * draw, shift, spread), draw_normal(120, 2 * draw + 1)
        (value, low, high), detail = measure_frechet(*sides, seed=draw)
        assert 0 <= low <= value <= high
        rows.append((detail["biased"], detail["unfloored"], low <= truth <= high))
    biased, unfloored, covered = np.mean(rows, axis=0)
    assert biased - truth > 0.1
    assert abs(unfloored - truth) < 0.25 * (biased - truth)
    assert covered > 0.85


def test_few_patients_are_compared_in_fewer_directions() -> None:
    sides = draw_normal(60, 1, dimensions=200), draw_normal(80, 2, dimensions=200)
    _, detail = measure_frechet(*sides, seed=0)
    assert detail["dimensions"] == 30
    assert 0.3 < detail["variance"] < 1
    _, detail = measure_frechet(draw_normal(60, 1), draw_normal(80, 2), seed=0)
    assert (detail["dimensions"], detail["variance"]) == (8, 1.0)


@pytest.mark.parametrize("count", [30, 300])
def test_directions_are_those_of_the_largest_variance(count: int) -> None:
    """With more features than images and with fewer: a difference of the sides and one wide feature come first."""
    sides = [draw_normal(count, seed, dimensions=100).features for seed in (3, 4)]
    sides[0][:, 7] += 40
    for side in sides:
        side[:, 2] *= 10
    found, kept = find_directions(*(Side(side, np.arange(count)) for side in sides), 2)
    assert np.abs(found[7, 0]) > 0.95
    assert np.abs(found[2, 1]) > 0.95
    np.testing.assert_allclose(found.T @ found, np.eye(2), atol=1e-5)
    assert 0.7 < kept < 1
