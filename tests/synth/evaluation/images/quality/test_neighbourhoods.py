"""Precision, recall, density and coverage: those of the package prdc, for all images and for every half."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from prdc import compute_prdc as compute_by_prdc
from scipy.spatial.distance import cdist

from synth.evaluation.images.layout import NotComparableError
from synth.evaluation.images.quality.neighbourhoods import K, Prdc, compare_neighbourhoods, compute_prdc, count_bits
from synth.evaluation.images.resampling import PAIRS, draw_halves, pack_halves
from synth.seeds import stream
from tests.synth.evaluation.images.gaussians import draw_side

PRECISIONS = (torch.bfloat16, torch.float32)


def count_all(synthetic, real, k: int = K) -> Prdc:
    """Return the scores by their definitions from all distances."""
    radii = [np.sort(np.sqrt(cdist(s, s, "sqeuclidean").astype(np.float32)), axis=1)[:, k] for s in (real, synthetic)]
    distances = np.sqrt(cdist(real, synthetic, "sqeuclidean").astype(np.float32))
    inside = distances < radii[0][:, None]
    recalled = (distances < radii[1]).any(axis=1)
    return Prdc(inside.any(axis=0).mean(), recalled.mean(), inside.sum(axis=0).mean() / k, inside.any(axis=1).mean())


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(
    ("seed", "synthetic", "real", "dimensions", "k"),
    [(1, 300, 400, 24, 5), (2, 1100, 700, 5, 3), (3, 60, 2100, 200, 1)],
)
def test_scores_are_those_of_prdc(seed, synthetic, real, dimensions, k, precision, capsys) -> None:
    rng = stream(seed, -1, -1, "test/prdc")
    made = (1.1 * rng.standard_normal((synthetic, dimensions)) + 0.2).astype(np.float32)
    known = rng.standard_normal((real, dimensions)).astype(np.float32)
    found = compute_prdc(made, known, k, precision)
    wanted = compute_by_prdc(known, made, k)
    for name, value in found._asdict().items():
        assert value == pytest.approx(wanted[name], abs=1e-12), name


@pytest.mark.parametrize("precision", PRECISIONS)
def test_duplicates_and_equal_distances(precision: torch.dtype) -> None:
    rng = stream(4, -1, -1, "test/prdc")
    made, known = (rng.integers(-2, 3, (count, 3)).astype(np.float32) for count in (150, 220))
    np.testing.assert_allclose(compute_prdc(made, known, K, precision), count_all(made, known), atol=1e-12)
    np.testing.assert_allclose(compute_prdc(known, known, K, precision), count_all(known, known), atol=1e-12)


@pytest.mark.parametrize("unit", [2.0**-70, 2.0**70])
def test_scores_do_not_depend_on_the_unit(unit: float) -> None:
    made, known = draw_side(120, 5).features, draw_side(150, 6).features
    scaled = compute_prdc(made * np.float32(unit), known * np.float32(unit))
    np.testing.assert_allclose(scaled, compute_prdc(made, known), atol=1e-12)


@pytest.mark.parametrize(("precision", "patients", "several", "exact"), [
    (torch.float32, (24, 23), 0.0, 1.0),  # all neighbours are listed
    (torch.float32, (260, 200), 0.5, 0.9),  # once in 1,000 times a half keeps fewer than 5 of the 24 listed
    (torch.bfloat16, (260, 200), 0.5, 0.0),  # the distance of a pair is an estimate where only halves need it
])  # fmt: skip
def test_halves_are_those_computed_anew(precision, patients, several, exact) -> None:
    sides = [draw_side(count, 7 + place, several=several) for place, count in enumerate(patients)]
    halves = [draw_halves(side.patient, stream(9, -1, -1, "test/halves")) for side in sides]
    words = tuple(pack_halves(half) for half in halves)
    whole, found = compare_neighbourhoods(sides[0].features, sides[1].features, words, precision=precision)
    assert whole == compute_prdc(sides[0].features, sides[1].features)
    wanted = []
    for bit in range(2 * PAIRS):
        chosen = [half[bit % PAIRS] == (bit < PAIRS) for half in halves]
        wanted.append(count_all(*(side.features[rows] for side, rows in zip(sides, chosen, strict=True))))
    error = np.abs(np.array(found) - np.array(wanted).T)
    assert (error < 1e-12).mean() >= exact
    assert error.max() < 0.02


def test_extreme_sides() -> None:
    known = draw_side(80, 10).features
    np.testing.assert_array_equal(compute_prdc(known + 1000, known), (0, 0, 0, 0))
    same = compute_prdc(known, known)
    assert (same.precision, same.recall, same.coverage) == (1, 1, 1)
    collapsed = compute_prdc(np.repeat(known[:1], 80, axis=0), known)
    assert collapsed.precision == 1
    assert collapsed.recall == 0
    assert collapsed.coverage < 0.2


def test_too_few_images_are_refused() -> None:
    known = draw_side(40, 11).features
    with pytest.raises(NotComparableError, match="5 synthetic and 40 real images; more than 5"):
        compute_prdc(known[:5], known)


def test_bits_are_counted() -> None:
    words = np.array([1, 3, 1 << 63], np.uint64)
    assert count_bits(words)[[0, 1, 2, 63]].tolist() == [2, 1, 0, 1]
